//! A search in its folder: begun, or gone on with after a kill.

use std::path::Path;
use std::time::{Duration, Instant};

use milenas_models::input::InputContract;
use milenas_models::kernels::cuda::Device;
use milenas_models::{Genotype, file};

use super::budget;
use super::genotypes::{GenotypeRow, Genotypes, table};
use super::{CHECKPOINT, Data, Folder, GENOTYPE, ORIGIN};
use crate::config::Config;
use crate::strategy::checkpoint::{SearchCheckpoint, SearchOrigin};
use crate::strategy::{EpochRecord, ProgressSink, SearchCheckpointer, SearchTask, StopReason, search};
use crate::supernet::{DeviceSpec, SupernetConfig, new_supernet};
use crate::{Error, Result};

/// A folder, what the search in it is made of, and where it goes on.
#[derive(Debug)]
pub struct SearchRun {
    /// Where it leaves things.
    pub folder: Folder,
    origin: SearchOrigin,
    from: Option<SearchCheckpoint>,
}

impl SearchRun {
    /// Epochs and steps of the next one that are done.
    pub fn done(&self) -> (usize, usize) {
        self.from.as_ref().map_or((0, 0), |from| (from.position.epoch, from.position.step))
    }
}

/// Makes the folder of a search that computes at `place`, or opens it to `resume`: then the search goes on from its checkpoint, and from
/// the beginning if it was stopped before the first one.
///
/// # Errors
/// A folder with a search in it where none should be, a checkpoint of another configuration, device or of other images.
pub fn open_search(
    path: &Path,
    config: &Config,
    data: &Data,
    place: DeviceSpec,
    resume: bool,
) -> Result<SearchRun> {
    if place == DeviceSpec::Cpu {
        budget::check_search(config, &data.train.contract, data.train.len())?;
    }
    let device = place.kind().into();
    let origin = SearchOrigin { config: config.clone(), data: data.train.fingerprint(), device };
    let checkpoint = path.join(CHECKPOINT);
    if path.join(ORIGIN).exists() && !path.join(GENOTYPE).exists() {
        let problem = format!(
            "{} holds an unfinished search that judges architectures one by one. Help: go on with it by --resume and its own \
             --strategy, or choose another --out",
            path.display()
        );
        return Err(Error::Data { problem });
    }
    if checkpoint.exists() && resume {
        let from = SearchCheckpoint::load(&checkpoint, &origin)?;
        let folder = Folder::reopen(path, config, &data.source, from.position.epoch)?;
        return Ok(SearchRun { folder, origin, from: Some(from) });
    }
    if checkpoint.exists() && !path.join(GENOTYPE).exists() {
        let problem = format!(
            "{} holds the checkpoint of an unfinished search. Help: go on with it by --resume, or choose another --out",
            path.display()
        );
        return Err(Error::Data { problem });
    }
    Ok(SearchRun { folder: Folder::create(path, config, &data.source, GENOTYPE)?, origin, from: None })
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct SearchResult {
    /// The architecture in `genotype.json`.
    pub genotype: Genotype,
    /// The best of every size.
    pub table: Vec<GenotypeRow>,
    /// The row that was chosen; `None` if the search ended in an epoch at a size that no epoch had.
    pub chosen: Option<usize>,
    /// Why it ended.
    pub ended: StopReason,
}

/// Searches on a source's images, on a device or, without one, on the CPU; leaves `genotype.json`, the best of every size in
/// `genotypes/`, the last point in `checkpoint.safetensors`, and `report.html`, which is there from the beginning and grows.
///
/// # Errors
/// Those of the search, and that no size is within the limits: all else is written then.
pub fn run_search(
    data: &Data,
    run: SearchRun,
    device: Option<Box<dyn Device>>,
    recorder: &mut dyn ProgressSink,
    tell: &mut dyn FnMut(&EpochRecord),
) -> Result<SearchResult> {
    let SearchRun { mut folder, origin, from } = run;
    let config = &origin.config;
    let InputContract { height, width, channels, .. } = data.train.contract;
    let shape = SupernetConfig {
        channels: config.search.channels,
        layers: config.search.layers,
        classes: data.classes.len(),
        in_channels: channels,
        space: config.search.space()?,
        partial: config.search.partial_channels,
        ..SupernetConfig::paper(data.classes.len())
    };
    folder.page()?;
    let mut net = new_supernet(&shape, height, width, config.seed, device)?;
    let evaluation = data.derived(&config.train);
    let stop = &config.search.stop;
    let mut keeper = SearchFolder {
        genotypes: Genotypes::new(folder.join(""), evaluation),
        // Checked with the configuration.
        budget: stop.budget().ok().flatten(),
        folder: &mut folder,
        origin: &origin,
        since: Instant::now(),
        tell,
    };
    let task = SearchTask { pictures: &data.train, config, evaluation };
    let outcome = search(&mut *net, &task, from, recorder, &mut keeper)?;
    let size = outcome.sizes.choose(&outcome.genotype, &stop.limits(), &evaluation)?;
    let chosen = size.and_then(|size| outcome.sizes.0.keys().position(|&known| known == size));
    let table = table(&outcome.sizes, &evaluation)?;
    let genotype = chosen.map_or(outcome.genotype, |row| table[row].genotype.clone());
    file::write(&folder.join(GENOTYPE), genotype.to_json().as_bytes())?;
    folder.page()?;
    Ok(SearchResult { genotype, table, chosen, ended: outcome.ended })
}

struct SearchFolder<'a> {
    folder: &'a mut Folder,
    origin: &'a SearchOrigin,
    genotypes: Genotypes,
    budget: Option<Duration>,
    since: Instant,
    tell: &'a mut dyn FnMut(&EpochRecord),
}

impl SearchCheckpointer for SearchFolder<'_> {
    fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        (self.tell)(record);
        self.folder.record(record)
    }

    fn save(&mut self, checkpoint: &SearchCheckpoint) -> Result<()> {
        self.folder.take_back()?;
        // Before it: what a checkpoint knows of is there.
        self.genotypes.write(&checkpoint.sizes)?;
        checkpoint.save(&self.folder.join(CHECKPOINT), self.origin)?;
        self.folder.mark(checkpoint.position, &mut self.since, &self.origin.device)
    }

    fn out_of_time(&self) -> bool {
        let spent = self.folder.spent() + self.since.elapsed().as_secs_f64();
        self.budget.is_some_and(|budget| spent >= budget.as_secs_f64())
    }
}
