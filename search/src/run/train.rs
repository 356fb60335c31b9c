//! A training in its folder: begun, or gone on with after a kill.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use milenas_models::metrics::Scores;
use milenas_models::{Card, Genotype, Model, NetworkConfig, Trainable, Weights, assemble, cost, file};
use serde::{Deserialize, Serialize};

use super::budget;
use super::evaluation::BATCH;
use super::{CHECKPOINT, COST, Data, Folder, GENOTYPE, SCORES, START, TrainedSupernet, WEIGHTS};
use crate::config::Config;
use crate::engine::MaybeDevice;
use crate::strategy::ProgressSink;
use crate::supernet::DeviceSpec;
use crate::train::checkpoint::{TrainCheckpoint, TrainOrigin};
use crate::train::{TrainCheckpointer, TrainRecord, TrainTask, estimate_statistics, evaluate, train};
use crate::{Error, Result};

/// A folder, what the training in it is made of, and where it goes on.
#[derive(Debug)]
pub struct TrainRun {
    /// Where it leaves things.
    pub folder: Folder,
    origin: TrainOrigin,
    from: Option<TrainCheckpoint>,
    shape: NetworkConfig,
    network: Trainable,
    weights: Weights,
    /// Whether the weights are a supernet's, whose statistics are not the network's.
    inherited: bool,
}

impl TrainRun {
    /// Epochs and steps of the next one that are done.
    pub fn done(&self) -> (usize, usize) {
        self.from.as_ref().map_or((0, 0), |from| (from.position.epoch, from.position.step))
    }
}

/// What a training begins with.
#[derive(Clone, Debug)]
pub enum InitialWeights {
    /// Random weights, by the seed.
    Random,
    /// Those that a supernet has for the genotype.
    Supernet(Box<TrainedSupernet>),
}

/// `start.json`: where a training has its weights from, so that its page can say how to go on with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inherited {
    /// The folder of the search, as it was typed.
    pub from_supernet: PathBuf,
}

/// What a training leaves.
#[derive(Clone, Debug)]
pub struct Trained {
    /// As it is in `weights.safetensors`.
    pub model: Model,
    /// On the test images.
    pub scores: Scores,
}

/// Makes the folder of a training that computes at `place`, or opens it to `resume`: then the training goes on from its checkpoint, and
/// from the beginning if it was stopped before the first one.
///
/// # Errors
/// A folder with a training in it where none should be, a checkpoint of another configuration, architecture, device or of other images, a
/// network that cannot be, weights that do not fit.
pub fn open_train(
    path: &Path,
    config: &Config,
    data: &Data,
    genotype: &Genotype,
    given: &InitialWeights,
    place: DeviceSpec,
    resume: bool,
) -> Result<TrainRun> {
    // Before the folder: what cannot be trained leaves nothing behind.
    let shape = data.derived(&config.train);
    let network = Trainable::assemble(genotype, &shape, config.train.auxiliary > 0.0)?;
    if place == DeviceSpec::Cpu {
        budget::check_training(&network.graph, config, data.train.len())?;
    }
    let weights = Weights::init(&network.graph, config.seed)?;
    let (start, inherited) = match given {
        InitialWeights::Random => ("random weights".into(), false),
        InitialWeights::Supernet(supernet) => {
            supernet.inherit(genotype, &shape, &weights)?;
            (supernet.fingerprint()?, true)
        }
    };
    let (config, genotype) = (config.clone(), genotype.clone());
    let device = place.kind().into();
    let origin = TrainOrigin { config, data: data.train.fingerprint(), device, genotype, start };
    let checkpoint = path.join(CHECKPOINT);
    if checkpoint.exists() && resume {
        let from = TrainCheckpoint::load(&checkpoint, &origin)?;
        let folder = Folder::reopen(path, &origin.config, &data.source, from.position.epoch)?;
        return Ok(TrainRun { folder, origin, from: Some(from), shape, network, weights, inherited });
    }
    if checkpoint.exists() && !path.join(WEIGHTS).exists() {
        let problem = format!(
            "{} holds the checkpoint of an unfinished run. Help: go on with a training by --resume, or choose another \
             --out",
            path.display()
        );
        return Err(Error::Data { problem });
    }
    let folder = Folder::create(path, &origin.config, &data.source, WEIGHTS)?;
    if let InitialWeights::Supernet(supernet) = given {
        write_json(&folder.join(START), &Inherited { from_supernet: supernet.run().to_path_buf() })?;
    }
    Ok(TrainRun { folder, origin, from: None, shape, network, weights, inherited })
}

/// Trains a genotype on its images, on the device that the run was opened for; leaves `weights.safetensors`, without an auxiliary head, what they score in
/// `scores.json`, `cost.json`, the last point in `checkpoint.safetensors`, and `report.html`, which is there from the beginning and grows. `tell` hears the accuracy of inherited weights, if there are any,
/// and of every epoch.
pub fn run_train(
    data: &Data,
    run: TrainRun,
    mut device: MaybeDevice<'_>,
    recorder: &mut dyn ProgressSink,
    tell: &mut dyn FnMut(Option<f64>, &TrainRecord),
) -> Result<Trained> {
    let TrainRun { mut folder, origin, from, shape, network, mut weights, inherited } = run;
    let TrainOrigin { config, genotype, .. } = &origin;
    let mut before = None;
    if inherited && from.is_none() {
        estimate_statistics(&network, &weights, &data.train, config, device.as_deref_mut())?;
        let ranked = evaluate(&network.graph, &weights, &data.test, BATCH)?;
        before = Some(Scores::new(&ranked, &data.classes).top1);
    }
    let graph = assemble(genotype, &shape)?;
    write_json(&folder.join(COST), &cost(&graph))?;
    file::write(&folder.join(GENOTYPE), genotype.to_json().as_bytes())?;
    folder.page()?;
    let task = TrainTask { network: &network, pictures: &data.train, test: &data.test, config };
    let mut keeper = TrainFolder {
        folder: &mut folder,
        origin: &origin,
        since: Instant::now(),
        tell: &mut |record| tell(before, record),
    };
    train(&task, &weights, from, device, recorder, &mut keeper)?;

    let kept: std::collections::HashSet<&str> = graph.params().map(|p| p.name.as_str()).collect();
    weights.retain(|name| kept.contains(name));
    let ranked = evaluate(&graph, &weights, &data.test, BATCH)?;
    let scores = Scores::new(&ranked, &data.classes);
    let record = BTreeMap::from(
        [
            ("program", format!("milenas-search {}", env!("CARGO_PKG_VERSION"))),
            ("data", data.source.to_string()),
            (Card::IMAGES, data.fingerprint.clone()),
            (Card::TEST_IMAGES, if data.held_out { Card::HELD_OUT } else { "test part" }.to_string()),
            ("split", config.data.split.to_string()),
            ("seed", config.seed.to_string()),
            ("epochs", config.train.epochs.to_string()),
            ("start", origin.start.clone()),
            ("test_accuracy", format!("{:.4}", scores.top1)),
        ]
        .map(|(key, value)| (key.to_string(), value)),
    );
    let card = Card {
        version: Card::VERSION,
        genotype: genotype.clone(),
        network: shape,
        labels: data.classes.clone(),
        input: data.train.contract.clone(),
        record,
    };
    write_json(&folder.join(SCORES), &scores)?;
    let model = Model { card, graph, weights };
    model.save(&folder.join(WEIGHTS))?;
    folder.page()?;
    Ok(Trained { model, scores })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Config { place: path.display().to_string(), problem: e.to_string() })?;
    Ok(file::write(path, json.as_bytes())?)
}

struct TrainFolder<'a> {
    folder: &'a mut Folder,
    origin: &'a TrainOrigin,
    since: Instant,
    tell: &'a mut dyn FnMut(&TrainRecord),
}

impl TrainCheckpointer for TrainFolder<'_> {
    fn epoch(&mut self, record: &TrainRecord) -> Result<()> {
        (self.tell)(record);
        self.folder.record(record)
    }

    fn save(&mut self, checkpoint: &TrainCheckpoint) -> Result<()> {
        checkpoint.save(&self.folder.join(CHECKPOINT), self.origin)?;
        self.folder.mark(checkpoint.position, &mut self.since, &self.origin.device)
    }
}
