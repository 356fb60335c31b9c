//! What can go wrong in this crate, sorted by who is at fault.

use std::path::PathBuf;

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure of this crate. Each message says what, where, expected and found, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The request is at fault.
    /// A name that is none of the known ones.
    #[error("unknown {what} `{found}`{}", suggestion(.found, .known))]
    Unknown {
        /// What kind of name, e.g. `primitive`.
        what: &'static str,
        /// The name as given.
        found: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A genotype that breaks a rule of its space.
    #[error("genotype, {place}: {problem}")]
    Genotype {
        /// Cell, node and edge.
        place: String,
        /// The rule and what was found.
        problem: String,
    },
    /// A value outside what the library can do.
    #[error("{what} is {found}, expected {expected}")]
    Value {
        /// The name of the value.
        what: String,
        /// The value as given.
        found: String,
        /// What would be accepted.
        expected: String,
    },

    // A file is at fault.
    /// A file that the system refuses to read or write.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that is damaged or not what its name says.
    #[error("{place}: {problem}")]
    Malformed {
        /// File, and the place in it.
        place: String,
        /// What was expected and found.
        problem: String,
    },
    /// A file that ends too early.
    #[error("{place}: truncated: {problem}. Help: copy or download the file again")]
    Truncated {
        /// The file, and its format.
        place: String,
        /// Where it ends, and what should have followed.
        problem: String,
    },
    /// A file that asks for more than the limits allow.
    #[error("{place}: {what} is {found}, the limit is {limit}")]
    Limit {
        /// File, and the place in it.
        place: String,
        /// Which quantity.
        what: &'static str,
        /// What the file asks for.
        found: u64,
        /// The largest accepted.
        limit: u64,
    },
    /// Weights that do not belong to the network.
    #[error(
        "weights: {problem}. Help: use the weights that were trained for this genotype, channels and layers"
    )]
    Weights {
        /// The first differing name, and both shapes.
        problem: String,
    },

    // The graph is at fault: a bug of the program that built it.
    /// A graph that breaks a rule of the intermediate representation.
    #[error("graph, node `{node}`: {problem}")]
    Graph {
        /// The node's name.
        node: String,
        /// The rule and what was found.
        problem: String,
    },

    // A device is at fault.
    /// A device that is not there, or that failed.
    #[error("{what}: {problem}")]
    Device {
        /// The device, a kernel, or what was asked of it.
        what: String,
        /// What it said, and what to do.
        problem: String,
    },

    // The tensor library failed.
    /// An operation that candle refused.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// An [`Error::Io`] at `path`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        |source| Error::Io { path, source }
    }

    /// An [`Error::Malformed`] at `place`.
    pub fn malformed(place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Malformed { place: place.into(), problem: problem.into() }
    }

    /// The same failure with `file` before its place: a decoder that sees bytes alone cannot name the file.
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

    /// An [`Error::Unknown`] name among `known`.
    pub fn unknown<S: Into<String>>(
        what: &'static str,
        found: impl Into<String>,
        known: impl IntoIterator<Item = S>,
    ) -> Error {
        Error::Unknown { what, found: found.into(), known: known.into_iter().map(Into::into).collect() }
    }
}

/// `, did you mean ...?` when a known name is near, else the known names.
pub fn suggestion(found: &str, known: &[String]) -> String {
    let near = known.iter().min_by_key(|name| strsim::damerau_levenshtein(found, name));
    match near {
        Some(name) if strsim::damerau_levenshtein(found, name) <= 2 + name.len() / 4 => {
            format!(", did you mean `{name}`?")
        }
        _ => format!(", expected one of {}", known.join(", ")),
    }
}

/// An error and its causes on one line, each once: most messages have their cause in them already.
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
/// let message = "Help: set `runtime` to ort, or see setting `size`";
/// let flags = milenas_models::error::with_settings(message, |name| format!("--{name}"));
/// assert_eq!(flags, "Help: --runtime ort, or see --size");
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

/// Names that a message lists before it counts the rest.
const LISTED: usize = 5;

/// At most five names, then how many more there are: a message stays readable whatever a file holds.
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
