//! Checkpoint of a black-box search. It holds the identity of the search only: the search is replayed from its tables of
//! evaluations.

use std::path::Path;

use milenas_models::file;
use serde::{Deserialize, Serialize};

use super::{CHECKPOINT, HISTORY};
use crate::Result;
use crate::checkpoint::{
    Checkpoint, Position, RunOrigin, RunState, TensorReader, TensorWriter, check_origin, damaged,
};
use crate::strategy::checkpoint::SearchOrigin;

/// File name of the identity in version 0.1.
const ORIGIN: &str = "origin.json";
/// Format version of [`ORIGIN`].
const VERSION: u32 = 1;
/// Largest [`ORIGIN`] that is read, in bytes.
const MAX_ORIGIN_BYTES: u64 = 1 << 20;

/// Checkpoint of a black-box search, written before its first evaluation.
pub type PopulationCheckpoint = Checkpoint<PopulationState>;

/// State of a black-box search besides its tables: none.
#[derive(Clone, Copy, Debug)]
pub struct PopulationState;

/// Part of the header of a black-box search: nothing.
#[derive(Serialize, Deserialize)]
pub struct PopulationHeader {}

impl RunState for PopulationState {
    const KIND: &'static str = "search";
    const KEY: &'static str = "milenas.population";
    type Subject = ();
    type Header = PopulationHeader;

    fn write(&self, _: &mut TensorWriter, _: &RunOrigin) -> Result<PopulationHeader> {
        Ok(PopulationHeader {})
    }

    fn read(_: &TensorReader<'_>, _: PopulationHeader, _: &RunOrigin) -> Result<Self> {
        Ok(PopulationState)
    }

    fn not_finite(&self) -> Result<Option<(&'static str, f64)>> {
        Ok(None)
    }
}

impl Default for PopulationCheckpoint {
    fn default() -> Self {
        Checkpoint { position: Position::default(), state: PopulationState }
    }
}

/// Returns whether a folder holds a black-box search, of this version or of version 0.1.
pub(super) fn is_population(run: &Path) -> bool {
    run.join(HISTORY).exists() && [CHECKPOINT, ORIGIN].iter().any(|name| run.join(name).exists())
}

/// Checks that the search in a folder has this identity.
///
/// # Errors
/// Fails for another configuration, device or other images, and for a damaged file.
pub(super) fn read_identity(run: &Path, origin: &SearchOrigin) -> Result<()> {
    let checkpoint = run.join(CHECKPOINT);
    match checkpoint.exists() {
        true => PopulationCheckpoint::load(&checkpoint, origin).map(drop),
        false => read_former(&run.join(ORIGIN), origin),
    }
}

/// Header of [`ORIGIN`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormerHeader {
    version: u32,
    config: String,
    data: String,
    device: String,
}

fn read_former(path: &Path, origin: &SearchOrigin) -> Result<()> {
    let place = path.display().to_string();
    let bytes = file::read(path, MAX_ORIGIN_BYTES)?;
    let header: FormerHeader = serde_json::from_slice(&bytes).map_err(|e| damaged(&place, e))?;
    check_origin(
        &place,
        PopulationState::KIND,
        [header.version, VERSION],
        (&header.config, &origin.config),
        [&header.data, &origin.data],
        (Some(&header.device), &origin.device),
    )
}
