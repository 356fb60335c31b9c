//! A search in its folder: begun, or gone on with after a kill.

use std::path::Path;
use std::time::Instant;

use milenas_models::input::InputContract;
use milenas_models::{Genotype, file};

use super::{CHECKPOINT, Data, Folder, GENOTYPE};
use crate::config::Config;
use crate::strategy::checkpoint::{Checkpoint, Origin};
use crate::strategy::{EpochRecord, Keeper, Recorder, search};
use crate::supernet::{SupernetConfig, new_supernet};
use crate::{Error, Result};

/// A folder, what the search in it is made of, and where it goes on.
#[derive(Debug)]
pub struct SearchRun {
    /// Where it leaves things.
    pub folder: Folder,
    origin: Origin,
    from: Option<Checkpoint>,
}

impl SearchRun {
    /// Epochs and steps of the next one that are done.
    pub fn done(&self) -> (usize, usize) {
        self.from.as_ref().map_or((0, 0), |from| (from.position.epoch, from.position.step))
    }
}

/// Makes the folder of a search, or opens it to `resume`: then the search goes on from its checkpoint, and from the
/// beginning if it was stopped before the first one.
///
/// # Errors
/// A folder with a search in it where none should be, a checkpoint of another configuration or of other images.
pub fn open_search(path: &Path, config: &Config, data: &Data, resume: bool) -> Result<SearchRun> {
    let origin = Origin { config: config.clone(), data: data.train.fingerprint() };
    let checkpoint = path.join(CHECKPOINT);
    if checkpoint.exists() && resume {
        let from = Checkpoint::load(&checkpoint, &origin)?;
        let folder = Folder::reopen(path, config, from.position.epoch)?;
        return Ok(SearchRun { folder, origin, from: Some(from) });
    }
    if checkpoint.exists() && !path.join(GENOTYPE).exists() {
        let problem = format!(
            "{} holds the checkpoint of an unfinished search. Help: go on with it by --resume, or choose another --out",
            path.display()
        );
        return Err(Error::Data { problem });
    }
    Ok(SearchRun { folder: Folder::create(path, config, GENOTYPE)?, origin, from: None })
}

/// Searches on a source's images; leaves `genotype.json`, and the last point in `checkpoint.safetensors`.
pub fn run_search(
    data: &Data,
    run: SearchRun,
    recorder: &mut dyn Recorder,
    tell: &mut dyn FnMut(&EpochRecord),
) -> Result<Genotype> {
    let SearchRun { mut folder, origin, from } = run;
    let config = &origin.config;
    let InputContract { height, width, channels, .. } = data.train.contract;
    let shape = SupernetConfig {
        channels: config.search.channels,
        layers: config.search.layers,
        classes: data.classes.len(),
        in_channels: channels,
        ..SupernetConfig::paper(data.classes.len())
    };
    let mut net = new_supernet(&shape, height, width, config.seed)?;
    let mut keeper = InFolder { folder: &mut folder, origin: &origin, since: Instant::now(), tell };
    let outcome = search(&mut *net, &data.train, config, from, recorder, &mut keeper)?;
    file::write(&folder.join(GENOTYPE), outcome.genotype.to_json().as_bytes())?;
    Ok(outcome.genotype)
}

struct InFolder<'a> {
    folder: &'a mut Folder,
    origin: &'a Origin,
    since: Instant,
    tell: &'a mut dyn FnMut(&EpochRecord),
}

impl Keeper for InFolder<'_> {
    fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        (self.tell)(record);
        self.folder.record(record)
    }

    fn save(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.save(&self.folder.join(CHECKPOINT), self.origin)?;
        let seconds = std::mem::replace(&mut self.since, Instant::now()).elapsed().as_secs_f64();
        self.folder.time(checkpoint.position.epoch, checkpoint.position.step, seconds)
    }
}
