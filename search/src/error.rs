//! Errors of this crate.

/// Result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Errors in the configuration.
    /// Configuration that cannot be read, or that has an unknown key or a wrong value.
    #[error("configuration, {place}: {problem}")]
    Config {
        /// File or option, and the key.
        place: String,
        /// Expected and found value.
        problem: String,
    },

    // Errors in the data.
    /// Data that is missing or insufficient.
    #[error("data: {problem}")]
    Data {
        /// Missing data, and the next step for the user.
        problem: String,
    },

    /// Memory need above the available memory.
    #[error("memory: at least {needed} are needed for {what}, {free} are free. help: {help}")]
    Memory {
        /// Images or step that needs the memory.
        what: String,
        /// Needed amount, a lower bound.
        needed: String,
        /// Amount available under the limits of machine, control group and address space.
        free: String,
        /// Settings that lower the need.
        help: String,
    },

    // Errors in a run folder.
    /// File from which a run cannot resume.
    #[error("{place}: {problem}")]
    Resume {
        /// File that prevents it.
        place: String,
        /// Expected and found content, and the next step for the user.
        problem: String,
    },

    // Errors during a run.
    /// Value that is not finite. The run stops at once.
    #[error(
        "{what} is {value} at epoch {epoch}, step {step}. help: lower the learning rate, e.g. {key}={advice} and {key}_min=0"
    )]
    NotFinite {
        /// Name of the value.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// Epoch, counted from 0.
        epoch: usize,
        /// Step, counted from 0.
        step: usize,
        /// Configuration key of the learning rate.
        key: &'static str,
        /// Learning rate to try.
        advice: f64,
    },

    /// Checkpoint that could not be written.
    #[error(
        "the run stops at epoch {epoch}, step {step}: {source}. The previous checkpoint is intact. \
         help: free disk space or allow writing, then run again with setting `resume`"
    )]
    NotSaved {
        /// Epoch, counted from 0.
        epoch: usize,
        /// Number of finished steps in the epoch.
        step: usize,
        /// Failed write, with the file and the system's reason.
        source: milenas_models::Error,
    },

    /// File that could not be written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Path of the file.
        path: std::path::PathBuf,
        /// Reason given by the system.
        source: std::io::Error,
    },

    /// Error of `milenas-models`: networks, files and images.
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
