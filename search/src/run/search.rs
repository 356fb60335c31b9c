//! Gradient-based search in its run folder: started, or resumed after an interruption.

use std::path::Path;
use std::time::{Duration, Instant};

use milenas_models::input::InputContract;
use milenas_models::kernels::cuda::Device;
use milenas_models::{Genotype, file};

use super::budget;
use super::genotypes::{GenotypeRow, Genotypes, table};
use super::population_identity::is_population;
use super::{CHECKPOINT, Data, Folder, GENOTYPE};
use crate::config::Config;
use crate::strategy::checkpoint::{SearchCheckpoint, SearchOrigin};
use crate::strategy::{EpochRecord, ProgressSink, SearchCheckpointer, SearchTask, StopReason, search};
use crate::supernet::{DeviceSpec, SupernetConfig, new_supernet};
use crate::{Error, Result};

/// Run folder of a search, with the origin and the checkpoint of the search.
#[derive(Debug)]
pub struct SearchRun {
    /// Folder of the run.
    pub folder: Folder,
    origin: SearchOrigin,
    from: Option<SearchCheckpoint>,
}

impl SearchRun {
    /// Returns the number of finished epochs, and of finished steps in the next epoch.
    pub fn done(&self) -> (usize, usize) {
        self.from.as_ref().map_or((0, 0), |from| (from.position.epoch, from.position.step))
    }
}

/// Creates the folder of a search that computes on `place`, or opens it to `resume`. A resumed search starts
/// from its checkpoint, or from the beginning if it was stopped before the first one.
///
/// # Errors
/// Fails for a folder that already holds a search, and for a checkpoint of another configuration, device or
/// other images.
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
    let origin = SearchOrigin { config: config.clone(), data: data.train.fingerprint(), device, subject: () };
    let checkpoint = path.join(CHECKPOINT);
    if is_population(path) && !path.join(GENOTYPE).exists() {
        let problem = format!(
            "{} holds an unfinished search that evaluates whole architectures. help: resume it with its own strategy, \
             or choose another run folder",
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
            "{} holds the checkpoint of an unfinished search. help: resume it with setting `resume`, or choose another run folder",
            path.display()
        );
        return Err(Error::Data { problem });
    }
    Ok(SearchRun { folder: Folder::create(path, config, &data.source, GENOTYPE)?, origin, from: None })
}

/// Result of a search.
#[derive(Clone, Debug)]
pub struct SearchResult {
    /// Architecture in `genotype.json`.
    pub genotype: Genotype,
    /// Best architecture of every size.
    pub table: Vec<GenotypeRow>,
    /// Row of the chosen architecture. `None` if the search ended within an epoch, at a size that no finished
    /// epoch had.
    pub chosen: Option<usize>,
    /// Reason for the end.
    pub ended: StopReason,
}

/// Searches on the images of a source, on a device or, without one, on the CPU. Writes `genotype.json`, the
/// best genotype of every size in `genotypes/`, `checkpoint.safetensors`, and `report.html`, which is updated
/// during the search.
///
/// # Errors
/// Fails if the search fails, or if no size is within the limits; in that case everything else is written.
pub fn run_search(
    data: &Data,
    run: SearchRun,
    device: Option<Box<dyn Device>>,
    recorder: &mut dyn ProgressSink,
    observe: &mut dyn FnMut(&EpochRecord),
) -> Result<SearchResult> {
    let SearchRun { mut folder, origin, from } = run;
    let config = &origin.config;
    let InputContract { height, width, channels, .. } = data.train.contract;
    let before = from.as_ref().map_or(0, |from| from.position.last_epoch());
    let shape = SupernetConfig {
        channels: config.search.channels,
        layers: config.search.layers,
        classes: data.classes.len(),
        in_channels: channels,
        space: config.search.space()?,
        // The checkpoint before a stage has the supernet of the one before.
        partial: config.search.stage(before).partial,
        ..SupernetConfig::paper(data.classes.len())
    };
    if device.is_some() && config.search.later_stages()?.iter().any(|stage| stage.partial != shape.partial) {
        let problem = "a supernet on a device cannot grow its channels. help: use stages with one divisor, or search on the CPU";
        return Err(Error::Config { place: "search.stages".into(), problem: problem.into() });
    }
    folder.page()?;
    let mut net = new_supernet(&shape, height, width, config.seed, device)?;
    if let Some(reason) = net.slow_because() {
        recorder.note(&format!("slow search: the fast engine does not support this space ({reason})"));
    }
    let evaluation = data.derived(&config.train);
    let stop = &config.search.stop;
    let mut checkpointer = SearchFolder {
        genotypes: Genotypes::new(folder.join(""), evaluation),
        // The configuration was checked before.
        budget: stop.budget().ok().flatten(),
        folder: &mut folder,
        origin: &origin,
        since: Instant::now(),
        observe,
    };
    let task = SearchTask { images: &data.train, config, evaluation };
    let outcome = search(&mut *net, &task, from, recorder, &mut checkpointer)?;
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
    observe: &'a mut dyn FnMut(&EpochRecord),
}

impl SearchCheckpointer for SearchFolder<'_> {
    fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        (self.observe)(record);
        self.folder.record(record)
    }

    fn save(&mut self, checkpoint: &SearchCheckpoint) -> Result<()> {
        self.folder.take_back()?;
        // The genotypes that a checkpoint refers to are written before it.
        self.genotypes.write(&checkpoint.state.sizes)?;
        checkpoint.save(&self.folder.join(CHECKPOINT), self.origin)?;
        self.folder.mark(checkpoint.position, &mut self.since, &self.origin.device)
    }

    fn out_of_time(&self) -> bool {
        let spent = self.folder.spent() + self.since.elapsed().as_secs_f64();
        self.budget.is_some_and(|budget| spent >= budget.as_secs_f64())
    }
}
