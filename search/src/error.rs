//! What can go wrong in this crate, sorted by who is at fault.

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The configuration is at fault.
    /// A configuration that cannot be read or has an unknown key.
    #[error("configuration, {place}: {problem}")]
    Config {
        /// File or option, and the key.
        place: String,
        /// What was expected and found.
        problem: String,
    },

    // The data is at fault.
    /// Too little data for what was asked.
    #[error("data: {problem}")]
    Data {
        /// What is missing, and what to do.
        problem: String,
    },

    /// More memory than this process may take.
    #[error("memory: {what} need at least {needed}, {free} are free. Help: {help}")]
    Memory {
        /// The images or the step that needs it.
        what: String,
        /// The amount, from below.
        needed: String,
        /// The memory that the machine, the control group and the address space leave.
        free: String,
        /// The settings that lower it.
        help: String,
    },

    // What a run left is at fault.
    /// A run that cannot go on from what is there.
    #[error("{place}: {problem}")]
    Resume {
        /// The file.
        place: String,
        /// What was expected and found, and what to do.
        problem: String,
    },

    // The run went wrong.
    /// A number that is not finite. The run stops at once.
    #[error(
        "{what} is {value} at epoch {epoch}, step {step}. Help: lower the learning rate, e.g. --set {key}={advice} --set {key}_min=0"
    )]
    NotFinite {
        /// Which loss.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// Counted from 0.
        epoch: usize,
        /// Counted from 0.
        step: usize,
        /// The configuration key that helps.
        key: &'static str,
        /// A value to try.
        advice: f64,
    },

    /// A checkpoint that could not be written.
    #[error(
        "the run stops at epoch {epoch}, step {step}: {source}. The checkpoint before is whole. \
         Help: make room or give the right to write, then run again with --resume"
    )]
    NotSaved {
        /// Counted from 0.
        epoch: usize,
        /// Of the epoch, steps that are done.
        step: usize,
        /// The file and the system's reason.
        source: milenas_models::Error,
    },

    /// A file that a run could not write.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// Networks, files and images.
    #[error(transparent)]
    Models(#[from] milenas_models::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Error::Models(error.into())
    }
}

impl Error {
    /// An [`Error::Io`] at `path`.
    pub fn io(path: impl Into<std::path::PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        |source| Error::Io { path, source }
    }
}
