//! Errors of this crate, grouped by their cause.

use std::path::PathBuf;

/// Result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate. Each message states the subject, its place, the expected and the found value, and the next
/// step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Errors of the request.
    /// An unknown name.
    #[error("unknown {what} `{found}`{}", suggestion(.found, .known))]
    Unknown {
        /// Kind of the name, e.g. `primitive`.
        what: &'static str,
        /// The name that was given.
        found: String,
        /// The known names.
        known: Vec<String>,
    },
    /// A genotype that violates a rule of its space.
    #[error("genotype, {place}: {problem}")]
    Genotype {
        /// Cell, node and edge.
        place: String,
        /// The rule, and the value that violates it.
        problem: String,
    },
    /// A value outside of the supported range.
    #[error("{what} is {found}, expected {expected}")]
    Value {
        /// Name of the value.
        what: String,
        /// The value that was given.
        found: String,
        /// The accepted values.
        expected: String,
    },

    // Errors of a file.
    /// A file that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file that is damaged or has another format than expected.
    #[error("{place}: {problem}")]
    Malformed {
        /// File, and position in it.
        place: String,
        /// Expected and found content.
        problem: String,
    },
    /// A file that ends too early.
    #[error("{place}: truncated: {problem}. help: copy or download the file again")]
    Truncated {
        /// File, and its format.
        place: String,
        /// Position of the end, and the missing content.
        problem: String,
    },
    /// A file that exceeds the limits.
    #[error("{place}: {what} is {found}, the limit is {limit}")]
    Limit {
        /// File, and position in it.
        place: String,
        /// Name of the quantity.
        what: &'static str,
        /// Value of the file.
        found: u64,
        /// Largest accepted value.
        limit: u64,
    },
    /// Weights that do not fit the network.
    #[error(
        "weights: {problem}. help: use the weights that were trained for this genotype, channels and layers"
    )]
    Weights {
        /// Name of the first difference, and both shapes.
        problem: String,
    },

    // Errors of the graph, which are bugs of the program that built it.
    /// A graph that violates a rule of the intermediate representation.
    #[error("graph, node `{node}`: {problem}")]
    Graph {
        /// Name of the node.
        node: String,
        /// The rule, and the value that violates it.
        problem: String,
    },

    // Errors of a device.
    /// A device that is missing or failed.
    #[error("{what}: {problem}")]
    Device {
        /// Name of the device, a kernel, or the requested operation.
        what: String,
        /// Message of the device, and the next step.
        problem: String,
    },

    // Errors of the tensor library.
    /// An operation that candle rejected.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Returns a function that makes an [`Error::Io`] at `path`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        |source| Error::Io { path, source }
    }

    /// Returns an [`Error::Malformed`] at `place`.
    pub fn malformed(place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Malformed { place: place.into(), problem: problem.into() }
    }

    /// Returns the same error with `file` before its place. A decoder of bytes cannot name the file itself.
    pub fn within(self, file: &str) -> Error {
        let join = |place: String| format!("{file}, {place}");
        match self {
            Error::Malformed { place, problem } => Error::Malformed { place: join(place), problem },
            Error::Truncated { place, problem } => Error::Truncated { place: join(place), problem },
            Error::Limit { place, what, found, limit } => {
                Error::Limit { place: join(place), what, found, limit }
            }
            Error::Weights { problem } => Error::Weights { problem: format!("{file}: {problem}") },
            other => other,
        }
    }

    /// Returns an [`Error::Unknown`] for a name that is not among `known`.
    pub fn unknown<S: Into<String>>(
        what: &'static str,
        found: impl Into<String>,
        known: impl IntoIterator<Item = S>,
    ) -> Error {
        Error::Unknown { what, found: found.into(), known: known.into_iter().map(Into::into).collect() }
    }
}

/// Returns `, did you mean ...?` if a known name is similar, else the list of known names.
pub fn suggestion(found: &str, known: &[String]) -> String {
    let near = known.iter().min_by_key(|name| strsim::damerau_levenshtein(found, name));
    match near {
        Some(name) if strsim::damerau_levenshtein(found, name) <= 2 + name.len() / 4 => {
            format!(", did you mean `{name}`?")
        }
        _ => format!(", expected one of {}", known.join(", ")),
    }
}

/// Returns an error and its causes on one line. A cause that the text already contains is skipped, since most
/// messages include their cause.
pub fn format_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

/// Replaces the settings that a message names by their spelling in a program, e.g. as flags. Messages name a setting as
/// "set `NAME` to VALUE" or "setting `NAME`".
///
/// ```
/// let message = "help: set `runtime` to ort, or see setting `size`";
/// let flags = milenas_models::error::with_settings(message, |name| format!("--{name}"));
/// assert_eq!(flags, "help: --runtime ort, or see --size");
/// ```
pub fn with_settings(message: &str, spell: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut rest = message;
    while let Some((before, after)) = rest.split_once('`') {
        let named = |word: &str| before.strip_suffix(word);
        let (kept, to) = match (named("set "), named("setting ")) {
            (Some(kept), _) => (kept, "` to"),
            (_, Some(kept)) => (kept, "`"),
            _ => ("", ""),
        };
        match after.split_once(to).filter(|(name, _)| !to.is_empty() && !name.contains('`')) {
            Some((name, after)) => {
                text.push_str(kept);
                text.push_str(&spell(name));
                rest = after;
            }
            None => {
                text.push_str(before);
                text.push('`');
                rest = after;
            }
        }
    }
    text + rest
}

/// Number of names that a message lists before it counts the rest.
const LISTED: usize = 5;

/// Returns at most five names, then the number of remaining ones. A message stays readable for any content of a file.
///
/// ```
/// assert_eq!(milenas_models::error::some_of(&["a", "b"]), "a, b");
/// assert_eq!(milenas_models::error::some_of(&["1", "2", "3", "4", "5", "6", "7"]), "1, 2, 3, 4, 5 and 2 more");
/// ```
pub fn some_of(names: &[impl std::fmt::Display]) -> String {
    let listed: Vec<String> = names.iter().take(LISTED).map(ToString::to_string).collect();
    match names.len().saturating_sub(LISTED) {
        0 => listed.join(", "),
        more => format!("{} and {more} more", listed.join(", ")),
    }
}
