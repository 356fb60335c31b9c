//! Next step after a run, for the report and for programs that word it as a command.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

/// Placeholder for an image source that the run folder does not name.
pub const UNKNOWN_SOURCE: &str = "SRC";

/// Function that words a next step. The default is [`NextStep`]'s `Display`, a sentence in English; a program
/// passes one that returns its command.
pub type StepText = fn(&NextStep) -> String;

/// Step that follows a run or resumes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Resume an unfinished search.
    ResumeSearch {
        /// Folder of the search.
        run: PathBuf,
        /// Image source; `None` if it is unknown.
        data: Option<String>,
        /// Kind of device, e.g. `cuda,tf32`; `None` for the CPU.
        device: Option<String>,
    },
    /// Resume an unfinished training.
    ResumeTraining {
        /// Folder of the training.
        run: PathBuf,
        /// Folder of the search whose supernet gave the initial weights; `None` for random ones.
        from_supernet: Option<PathBuf>,
        /// Image source; `None` if it is unknown.
        data: Option<String>,
        /// Kind of device, e.g. `cuda,tf32`; `None` for the CPU.
        device: Option<String>,
    },
    /// Train the genotype that a search found, with the configuration of the search.
    Train {
        /// Folder of the search.
        search: PathBuf,
        /// Image source; `None` if it is unknown.
        data: Option<String>,
    },
    /// Export a trained network.
    Export {
        /// Folder of the training.
        training: PathBuf,
    },
    /// Compare the runs in a folder by a report.
    Compare {
        /// Folder that contains the run folders.
        runs: PathBuf,
    },
}

impl NextStep {
    /// Returns whether the step reads images of an unknown source, for which its text has [`UNKNOWN_SOURCE`].
    pub fn lacks_source(&self) -> bool {
        match self {
            NextStep::ResumeSearch { data, .. }
            | NextStep::ResumeTraining { data, .. }
            | NextStep::Train { data, .. } => data.is_none(),
            NextStep::Export { .. } | NextStep::Compare { .. } => false,
        }
    }
}

impl Display for NextStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let source = |data: &Option<String>| data.clone().unwrap_or_else(|| UNKNOWN_SOURCE.into());
        let (what, run, data, device) = match self {
            NextStep::ResumeSearch { run, data, device } => ("search", run, data, device),
            NextStep::ResumeTraining { run, data, device, .. } => ("training", run, data, device),
            NextStep::Train { search, data } => {
                let search = search.display();
                return write!(f, "train the genotype of the search in {search} on {}", source(data));
            }
            NextStep::Export { training } => {
                return write!(f, "export the network trained in {}", training.display());
            }
            NextStep::Compare { runs } => return write!(f, "compare the runs in {}", runs.display()),
        };
        write!(f, "resume the {what} in {} on {}", run.display(), source(data))?;
        if let NextStep::ResumeTraining { from_supernet: Some(search), .. } = self {
            write!(f, ", with initial weights of the search in {}", search.display())?;
        }
        device.as_ref().map_or(Ok(()), |device| write!(f, ", on device {device}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_text_is_a_sentence_without_flags() {
        let (run, data) = (PathBuf::from("runs/a b"), Some("digits".to_string()));
        let resumed = NextStep::ResumeTraining {
            run: run.clone(),
            from_supernet: Some("runs/s".into()),
            data: None,
            device: Some("cuda,tf32".into()),
        };
        assert_eq!(
            resumed.to_string(),
            "resume the training in runs/a b on SRC, with initial weights of the search in runs/s, on device cuda,tf32"
        );
        let train = NextStep::Train { search: run.clone(), data: data.clone() };
        assert_eq!(train.to_string(), "train the genotype of the search in runs/a b on digits");
        assert_eq!([resumed.lacks_source(), train.lacks_source()], [true, false]);
        let resumed = NextStep::ResumeSearch { run: run.clone(), data, device: None };
        assert_eq!(resumed.to_string(), "resume the search in runs/a b on digits");
        assert_eq!(
            NextStep::Export { training: run.clone() }.to_string(),
            "export the network trained in runs/a b"
        );
        assert_eq!(NextStep::Compare { runs: run }.to_string(), "compare the runs in runs/a b");
    }
}
