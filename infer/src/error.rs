//! Errors of this crate, sorted by who is at fault.

use std::path::PathBuf;

use milenas_models::images::listed;

/// The longest text of a library that a message carries, in characters.
const LONGEST: usize = 300;

/// A library's own words on one line, of bounded length: what it would print over pages is no message.
pub(crate) fn brief(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((at, _)) => format!("{}...", text[..at].trim_end()),
    }
}

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure that ends a run; a bad image does not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The request is at fault.
    /// An input that does not exist or cannot be listed.
    #[error("{}: {source}", .path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No input.
    #[error("no input. Help: name files, folders, tars or patterns, or set `list` to a file of paths")]
    Nothing,
    /// A pattern that is none, or matches nothing.
    #[error("the pattern `{pattern}` {problem}. Help: *, ?, [abc] and ** (any folders) are understood")]
    Pattern {
        /// As given.
        pattern: String,
        /// Problem with the pattern.
        problem: String,
    },
    /// Output that this run cannot resume.
    #[error(
        "{}: cannot be resumed: {problem}. Help: use the settings of the first run, or another output", .path.display()
    )]
    Resume {
        /// The output.
        path: PathBuf,
        /// Expected and found.
        problem: String,
    },
    /// A part that cannot be merged.
    #[error("{}: cannot be merged: {problem}", .path.display())]
    Part {
        /// The part.
        path: PathBuf,
        /// Expected and found.
        problem: String,
    },
    /// What this build was made without.
    #[error("this milenas-infer was built without {feature}. Help: {help}")]
    Feature {
        /// The cargo feature.
        feature: &'static str,
        /// How to get it, and what does without.
        help: &'static str,
    },
    /// An image that cannot be classified, where that ends the run.
    #[error("{path}: {reason}")]
    Image {
        /// The image.
        path: String,
        /// Why it could not be classified.
        reason: String,
    },
    /// Models of different classes.
    #[error("{source_name} has classes [{}], the model knows [{}]", listed(.found), listed(.expected))]
    Classes {
        /// The other model.
        source_name: String,
        /// Its labels.
        found: Vec<String>,
        /// The first model's labels.
        expected: Vec<String>,
    },

    /// A runtime that is not there.
    #[error("runtime {name}: {problem}")]
    Unavailable {
        /// The runtime.
        name: &'static str,
        /// Missing part, and how to get it.
        problem: String,
    },
    /// Setting that contradicts the file.
    #[error("{place}: {problem}")]
    Recipe {
        /// The file.
        place: String,
        /// Given, found and expected.
        problem: String,
    },

    // The model is at fault.
    /// A model that is no classifier of images.
    #[error("{place}: {problem}")]
    Model {
        /// The file.
        place: String,
        /// Expected and found.
        problem: String,
    },
    /// A file that cannot be decoded.
    #[error(transparent)]
    Export(#[from] milenas_export::Error),
    /// Networks, files and images.
    #[error(transparent)]
    Models(#[from] milenas_models::Error),

    // The runtime is at fault.
    /// A runtime that fails on images.
    #[error("runtime {name}: {problem}")]
    Runtime {
        /// The runtime.
        name: &'static str,
        /// Message of the runtime.
        problem: String,
    },

    // The output is at fault.
    /// Results that cannot be written.
    #[error("writing the results: {0}")]
    Output(std::io::Error),
}
