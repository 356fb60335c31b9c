//! Fingerprint of a run: everything besides the images that determines its rows. Rows with different
//! fingerprints do not belong in one file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use milenas_models::{file, hexadecimal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::answer::AnswerOptions;
use crate::model::{Classifier, ClassifierOptions};
use crate::{Error, Result};

/// Size limit of a fingerprint file, in bytes. Labels are a digest and a contract is short.
const MAX_BYTES: u64 = 1 << 16;

/// Values of the model file, the preparation of images and the reported answers, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// Fingerprint of a model, its loading options and its reported answers.
    pub fn new(model: &Classifier, options: &ClassifierOptions, view: &AnswerOptions) -> Self {
        let text = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
        let values = [
            ("model (SHA-256)", model.digest.clone()),
            ("labels (SHA-256)", hexadecimal(Sha256::digest(view.labels.join("\n")))),
            ("input", text(&model.input)),
            ("outputs", text(&model.meaning)),
            ("runtime", options.runtime.kind.name().into()),
            ("precision", options.runtime.precision.name().into()),
            ("--top-k", view.top_k.to_string()),
            ("--threshold", view.threshold.map_or("none".into(), |threshold| threshold.to_string())),
            ("--score", text(&view.score)),
            ("--all-scores", view.all_scores.to_string()),
            ("--features", view.features.is_some().to_string()),
        ];
        Fingerprint(values.map(|(name, value)| (name.to_string(), value)).into())
    }

    /// Describes the first difference to `other`; `None` if the fingerprints are equal.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let value = |of: &Self, name: &str| of.0.get(name).map_or("unknown", String::as_str).to_string();
        let name =
            self.0.keys().chain(other.0.keys()).find(|name| self.0.get(*name) != other.0.get(*name))?;
        Some(format!("{name} is {}, here {}", value(self, name), value(other, name)))
    }

    /// Returns the path of an output's fingerprint, `OUTPUT.run`. The file exists while the run is
    /// unfinished.
    pub fn path(output: &Path) -> PathBuf {
        file::beside(output, ".run")
    }

    /// Writes the fingerprint beside its output.
    pub fn write(&self, output: &Path) -> Result<()> {
        let path = Self::path(output);
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Output(e.into()))?;
        Ok(fs::write(&path, text + "\n").map_err(milenas_models::Error::io(&path))?)
    }

    /// Reads the fingerprint of an output. Returns `None` for a finished run, and for a run that was stopped
    /// before it wrote one.
    ///
    /// # Errors
    /// [`Error::Models`] for a file that cannot be read; [`Error::Resume`] for one that is not a fingerprint.
    pub fn read(output: &Path) -> Result<Option<Self>> {
        let path = Self::path(output);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = file::read(&path, MAX_BYTES)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let refused = |e: serde_json::Error| Error::Resume {
            path: output.to_path_buf(),
            problem: format!("{}: {e}", path.display()),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(refused)
    }

    /// Removes the fingerprint of an output, because the run has finished.
    pub fn remove(output: &Path) -> Result<()> {
        Ok(file::remove(&Self::path(output))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_named_and_what_is_written_is_read() {
        let print = |score: &str| Fingerprint(BTreeMap::from([("--score".into(), score.into())]));
        let (logit, probability) = (print("logit"), print("probability"));
        assert_eq!(logit.difference(&logit), None);
        assert_eq!(logit.difference(&probability).unwrap(), "--score is logit, here probability");
        let older = Fingerprint::default();
        assert_eq!(older.difference(&logit).unwrap(), "--score is unknown, here logit");

        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("rows.csv");
        assert_eq!(Fingerprint::read(&output).unwrap(), None);
        logit.write(&output).unwrap();
        assert_eq!(Fingerprint::read(&output).unwrap(), Some(logit));
        Fingerprint::remove(&output).unwrap();
        Fingerprint::remove(&output).unwrap();
        assert_eq!(Fingerprint::read(&output).unwrap(), None);
    }
}
