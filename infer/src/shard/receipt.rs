//! Receipt of a finished shard, a file beside its output.

use std::path::{Path, PathBuf};

use milenas_models::file;
use serde::{Deserialize, Serialize};

use super::Shard;
use crate::fingerprint::Fingerprint;
use crate::{Error, Result};

/// The largest receipt that is read, in bytes.
const MAX_BYTES: u64 = 1 << 16;

/// Says that an output is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Which part.
    pub shard: Shard,
    /// How many inputs all shards have together, counted by this one.
    pub inputs: usize,
    /// SHA-256 of their names.
    pub names: String,
    /// Fingerprint of the rows.
    pub made: Fingerprint,
    /// Number of rows.
    pub rows: usize,
    /// Those with an error.
    pub failed: usize,
}

impl Receipt {
    /// Where the receipt of an output lies: `OUTPUT.done`.
    pub fn path(output: &Path) -> PathBuf {
        file::beside(output, ".done")
    }

    /// Writes it beside its output, whole or not at all.
    pub fn write(&self, output: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|e| Error::Output(e.into()))?;
        Ok(file::write(&Self::path(output), format!("{text}\n").as_bytes())?)
    }

    /// Takes that of an output away: its rows are about to change.
    pub fn remove(output: &Path) -> Result<()> {
        Ok(file::remove(&Self::path(output))?)
    }

    /// Reads that of an output.
    ///
    /// # Errors
    /// None there: the output is not complete.
    pub fn read(output: &Path) -> Result<Self> {
        let path = Self::path(output);
        let refused = |problem: String| Error::Part { path: output.to_path_buf(), problem };
        if !path.exists() {
            let problem = format!("{} is missing, so the shard has not come to its end", path.display());
            return Err(refused(format!("{problem}. Help: run it again with setting `resume`")));
        }
        let bytes = file::read(&path, MAX_BYTES)?;
        let help = "Help: run the shard again";
        serde_json::from_slice(&bytes)
            .map_err(|e| refused(format!("its receipt {}: {e}. {help}", path.display())))
    }
}
