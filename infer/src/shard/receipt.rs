//! Receipt of a finished shard: a file beside the output of the shard.

use std::path::{Path, PathBuf};

use milenas_models::file;
use serde::{Deserialize, Serialize};

use super::Shard;
use crate::fingerprint::Fingerprint;
use crate::{Error, Result};

/// Size limit of a receipt, in bytes.
const MAX_BYTES: u64 = 1 << 16;

/// Proof that the output of a shard is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Index and number of the shard.
    pub shard: Shard,
    /// Number of inputs of all shards together, counted by this shard.
    pub inputs: usize,
    /// SHA-256 of the names of all inputs.
    pub names: String,
    /// Fingerprint of the rows.
    pub made: Fingerprint,
    /// Number of rows.
    pub rows: usize,
    /// Number of rows with an error.
    pub failed: usize,
}

impl Receipt {
    /// Returns the path of an output's receipt, `OUTPUT.done`.
    pub fn path(output: &Path) -> PathBuf {
        file::beside(output, ".done")
    }

    /// Writes the receipt beside its output, atomically.
    pub fn write(&self, output: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|e| Error::Output(e.into()))?;
        Ok(file::write(&Self::path(output), format!("{text}\n").as_bytes())?)
    }

    /// Removes the receipt of an output whose rows are about to change.
    pub fn remove(output: &Path) -> Result<()> {
        Ok(file::remove(&Self::path(output))?)
    }

    /// Reads the receipt of an output.
    ///
    /// # Errors
    /// [`Error::Part`] if the receipt is missing or damaged: the output is not complete.
    pub fn read(output: &Path) -> Result<Self> {
        let path = Self::path(output);
        let refused = |problem: String| Error::Part { path: output.to_path_buf(), problem };
        if !path.exists() {
            let problem = format!("{} is missing, so the shard is not finished", path.display());
            return Err(refused(format!("{problem}. help: run it again with setting `resume`")));
        }
        let bytes = file::read(&path, MAX_BYTES)?;
        let help = "help: run the shard again";
        serde_json::from_slice(&bytes)
            .map_err(|e| refused(format!("its receipt {}: {e}. {help}", path.display())))
    }
}
