//! A training in its folder: begun, or gone on with after a kill.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use milenas_models::images::Source;
use milenas_models::{Card, Genotype, Model, NetworkConfig, Trainable, Weights, assemble, file};

use super::{CHECKPOINT, Data, Folder, GENOTYPE, WEIGHTS};
use crate::config::Config;
use crate::strategy::Recorder;
use crate::train::checkpoint::{Checkpoint, Origin};
use crate::train::{Keeper, Task, TrainRecord, part, train};
use crate::{Error, Result};

/// A folder, what the training in it is made of, and where it goes on.
#[derive(Debug)]
pub struct TrainRun {
    /// Where it leaves things.
    pub folder: Folder,
    origin: Origin,
    from: Option<Checkpoint>,
}

impl TrainRun {
    /// Epochs and steps of the next one that are done.
    pub fn done(&self) -> (usize, usize) {
        self.from.as_ref().map_or((0, 0), |from| (from.position.epoch, from.position.step))
    }
}

/// Makes the folder of a training, or opens it to `resume`: then the training goes on from its checkpoint, and from the
/// beginning if it was stopped before the first one.
///
/// # Errors
/// A folder with a training in it where none should be, a checkpoint of another configuration, architecture or of other images.
pub fn open_train(
    path: &Path,
    config: &Config,
    data: &Data,
    genotype: &Genotype,
    resume: bool,
) -> Result<TrainRun> {
    let (genotype, start) = (genotype.clone(), "random weights".to_string());
    let origin = Origin { config: config.clone(), data: data.train.fingerprint(), genotype, start };
    let checkpoint = path.join(CHECKPOINT);
    if checkpoint.exists() && resume {
        let from = Checkpoint::load(&checkpoint, &origin)?;
        let folder = Folder::reopen(path, config, from.position.epoch)?;
        return Ok(TrainRun { folder, origin, from: Some(from) });
    }
    if checkpoint.exists() && !path.join(WEIGHTS).exists() {
        let problem = format!(
            "{} holds the checkpoint of an unfinished run. Help: go on with a training by --resume, or choose another \
             --out",
            path.display()
        );
        return Err(Error::Data { problem });
    }
    Ok(TrainRun { folder: Folder::create(path, config, WEIGHTS)?, origin, from: None })
}

/// Trains a genotype on a source's images; leaves `weights.safetensors`, without an auxiliary head, and the last point in
/// `checkpoint.safetensors`. Returns the model and its accuracy on the test images.
pub fn run_train(
    source: &Source,
    data: &Data,
    run: TrainRun,
    recorder: &mut dyn Recorder,
    tell: &mut dyn FnMut(&TrainRecord),
) -> Result<(Model, f64)> {
    let TrainRun { mut folder, origin, from } = run;
    let Origin { config, genotype, .. } = &origin;
    let settings = &config.train;
    let shape = data.network(settings.channels, settings.layers);
    let shape = NetworkConfig { skeleton: settings.skeleton, ..shape };
    let network = Trainable::assemble(genotype, &shape, settings.auxiliary > 0.0)?;
    let mut weights = Weights::init(&network.graph, config.seed)?;
    file::write(&folder.join(GENOTYPE), genotype.to_json().as_bytes())?;
    let task = Task { network: &network, pictures: &data.train, test: &data.test, config };
    let mut keeper = InFolder { folder: &mut folder, origin: &origin, since: Instant::now(), tell };
    let tested = train(&task, &weights, from, recorder, &mut keeper)?;

    let accuracy = part(tested);
    let record = BTreeMap::from(
        [
            ("program", format!("milenas-search {}", env!("CARGO_PKG_VERSION"))),
            ("data", source.to_string()),
            ("seed", config.seed.to_string()),
            ("epochs", settings.epochs.to_string()),
            ("test_accuracy", format!("{accuracy:.4}")),
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
    let graph = assemble(genotype, &shape)?;
    let kept: std::collections::HashSet<&str> = graph.params().map(|p| p.name.as_str()).collect();
    weights.retain(|name| kept.contains(name));
    let model = Model { card, graph, weights };
    model.save(&folder.join(WEIGHTS))?;
    Ok((model, accuracy))
}

struct InFolder<'a> {
    folder: &'a mut Folder,
    origin: &'a Origin,
    since: Instant,
    tell: &'a mut dyn FnMut(&TrainRecord),
}

impl Keeper for InFolder<'_> {
    fn epoch(&mut self, record: &TrainRecord) -> Result<()> {
        (self.tell)(record);
        self.folder.record(record)
    }

    fn save(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.save(&self.folder.join(CHECKPOINT), self.origin)?;
        let seconds = std::mem::replace(&mut self.since, Instant::now()).elapsed().as_secs_f64();
        self.folder.time(checkpoint.position.epoch, checkpoint.position.step, seconds)
    }
}
