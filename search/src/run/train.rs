//! Training in its run folder: started, or resumed after an interruption.

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
use crate::train::checkpoint::{TrainCheckpoint, TrainOrigin, TrainSubject};
use crate::train::{TrainCheckpointer, TrainRecord, TrainTask, estimate_statistics, evaluate, train};
use crate::{Error, Result};

/// Run folder of a training, with the origin, the checkpoint and the network of the training.
#[derive(Debug)]
pub struct TrainRun {
    /// Folder of the run.
    pub folder: Folder,
    origin: TrainOrigin,
    from: Option<TrainCheckpoint>,
    shape: NetworkConfig,
    network: Trainable,
    weights: Weights,
    /// Whether the weights come from a supernet, whose BatchNorm statistics do not apply to the network.
    inherited: bool,
}

impl TrainRun {
    /// Returns the number of finished epochs, and of finished steps in the next epoch.
    pub fn done(&self) -> (usize, usize) {
        self.from.as_ref().map_or((0, 0), |from| (from.position.epoch, from.position.step))
    }
}

/// Initial weights of a training.
#[derive(Clone, Debug)]
pub enum InitialWeights {
    /// Random weights from the seed.
    Random,
    /// Weights of a supernet for the genotype.
    Supernet(Box<TrainedSupernet>),
}

/// Content of `start.json`: the origin of inherited weights, so that the report can show the command that
/// resumes the training.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inherited {
    /// Folder of the search, as given by the user.
    pub from_supernet: PathBuf,
}

/// Result of a training.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Model in `weights.safetensors`.
    pub model: Model,
    /// Scores on the test images.
    pub scores: Scores,
}

/// Creates the folder of a training that computes on `place`, or opens it to `resume`. A resumed training
/// starts from its checkpoint, or from the beginning if it was stopped before the first one.
///
/// # Errors
/// Fails for a folder that already holds a training; for a checkpoint of another configuration, architecture,
/// device or other images; for an invalid network; for weights that do not fit.
pub fn open_train(
    path: &Path,
    config: &Config,
    data: &Data,
    genotype: &Genotype,
    given: &InitialWeights,
    place: DeviceSpec,
    resume: bool,
) -> Result<TrainRun> {
    // Checked before the folder is created, so that an invalid training leaves no files.
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
    let origin = TrainOrigin {
        config,
        data: data.train.fingerprint(),
        device,
        subject: TrainSubject { genotype, start },
    };
    let checkpoint = path.join(CHECKPOINT);
    if checkpoint.exists() && resume {
        let from = TrainCheckpoint::load(&checkpoint, &origin)?;
        let folder = Folder::reopen(path, &origin.config, &data.source, from.position.epoch)?;
        return Ok(TrainRun { folder, origin, from: Some(from), shape, network, weights, inherited });
    }
    if checkpoint.exists() && !path.join(WEIGHTS).exists() {
        let problem = format!(
            "{} holds the checkpoint of an unfinished run. help: resume it if it is a training, or choose another \
             run folder",
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

/// Trains a genotype on its images, on the device for which the run was opened. Writes `weights.safetensors`
/// without the auxiliary head, its scores in `scores.json`, `cost.json`, `checkpoint.safetensors`, and
/// `report.html`, which is updated during the training. `observe` receives the accuracy of inherited weights, if
/// there are any, and the record of every epoch.
pub fn run_train(
    data: &Data,
    run: TrainRun,
    mut device: MaybeDevice<'_>,
    recorder: &mut dyn ProgressSink,
    observe: &mut dyn FnMut(Option<f64>, &TrainRecord),
) -> Result<Trained> {
    let TrainRun { mut folder, origin, from, shape, network, mut weights, inherited } = run;
    let TrainOrigin { config, subject: TrainSubject { genotype, start }, .. } = &origin;
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
    let task = TrainTask { network: &network, images: &data.train, test: &data.test, config };
    let mut checkpointer = TrainFolder {
        folder: &mut folder,
        origin: &origin,
        since: Instant::now(),
        observe: &mut |record| observe(before, record),
    };
    train(&task, &weights, from, device, recorder, &mut checkpointer)?;

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
            ("start", start.clone()),
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
    observe: &'a mut dyn FnMut(&TrainRecord),
}

impl TrainCheckpointer for TrainFolder<'_> {
    fn epoch(&mut self, record: &TrainRecord) -> Result<()> {
        (self.observe)(record);
        self.folder.record(record)
    }

    fn save(&mut self, checkpoint: &TrainCheckpoint) -> Result<()> {
        checkpoint.save(&self.folder.join(CHECKPOINT), self.origin)?;
        self.folder.mark(checkpoint.position, &mut self.since, &self.origin.device)
    }
}
