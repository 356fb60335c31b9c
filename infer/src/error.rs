//! Errors of this crate, grouped by their cause.

use std::path::PathBuf;

use milenas_models::images::listed;

/// Largest length of a library's message inside an error, in characters.
const LONGEST: usize = 300;

/// Returns a library's message on one line and of limited length. Some libraries print several pages.
pub(crate) fn brief(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((at, _)) => format!("{}...", text[..at].trim_end()),
    }
}

/// Result type of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Error that ends a run. An image that cannot be read does not end a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Errors caused by the request.
    /// Input that does not exist or cannot be listed.
    #[error("{}: {source}", .path.display())]
    Input {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Request without any input.
    #[error("no input. help: name files, folders, tars or patterns, or set `list` to a file of paths")]
    Nothing,
    /// Pattern that is invalid or matches nothing.
    #[error("the pattern `{pattern}` {problem}. help: *, ?, [abc] and ** (any folders) are understood")]
    Pattern {
        /// Pattern as given.
        pattern: String,
        /// Problem with the pattern.
        problem: String,
    },
    /// Output that this run cannot resume.
    #[error(
        "{}: cannot be resumed: {problem}. help: use the settings of the first run, or another output", .path.display()
    )]
    Resume {
        /// Path of the output.
        path: PathBuf,
        /// Problem, with expected and found values.
        problem: String,
    },
    /// Output of a shard that cannot be merged.
    #[error("{}: cannot be merged: {problem}", .path.display())]
    Part {
        /// Path of the part.
        path: PathBuf,
        /// Problem, with expected and found values.
        problem: String,
    },
    /// Cargo feature that this build lacks.
    #[error("this program was built without {feature}. help: {help}")]
    Feature {
        /// Name of the feature.
        feature: &'static str,
        /// Steps to get the feature, or an alternative without it.
        help: &'static str,
    },
    /// Image that cannot be classified, if the caller stops at the first such image.
    #[error("{path}: {reason}")]
    Image {
        /// Path of the image.
        path: String,
        /// Reason why the image could not be classified.
        reason: String,
    },
    /// Different classes of two models that should be compared.
    #[error("{source_name} has classes [{}], the model has classes [{}]", listed(.found), listed(.expected))]
    Classes {
        /// Name of the other model.
        source_name: String,
        /// Labels of the other model.
        found: Vec<String>,
        /// Labels of the first model.
        expected: Vec<String>,
    },

    /// Runtime that is not available, or does not support a requested option.
    #[error("runtime {name}: {problem}")]
    Unavailable {
        /// Name of the runtime.
        name: &'static str,
        /// Missing part, and the way to get it.
        problem: String,
    },
    /// Setting that contradicts the file.
    #[error("{place}: {problem}")]
    Recipe {
        /// Name of the file.
        place: String,
        /// Problem, with given, found and expected values.
        problem: String,
    },

    // Errors caused by the model.
    /// Model file that is not an image classifier, or that the runtime cannot run.
    #[error("{place}: {problem}")]
    Model {
        /// Name of the file.
        place: String,
        /// Problem, with expected and found values.
        problem: String,
    },
    /// Error of decoding a file, from `milenas-export`.
    #[error(transparent)]
    Export(#[from] milenas_export::Error),
    /// Error of networks, files or images, from `milenas-models`.
    #[error(transparent)]
    Models(#[from] milenas_models::Error),

    // Errors caused by the runtime.
    /// Failure of a runtime on images.
    #[error("runtime {name}: {problem}")]
    Runtime {
        /// Name of the runtime.
        name: &'static str,
        /// Message of the runtime.
        problem: String,
    },

    // Errors caused by the output.
    /// Failure to write results.
    #[error("writing the results: {0}")]
    Output(std::io::Error),
}
