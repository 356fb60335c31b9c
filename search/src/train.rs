//! Training of a derived network: SGD with momentum and regularisation.

pub mod checkpoint;
pub mod drop_path;
pub mod short;

use std::borrow::Cow;
use std::time::Instant;

use milenas_models::fused::Regularisers;
use milenas_models::metrics::{self, Ranked};
use milenas_models::{Graph, Rng, Trainable, Weights};
use serde::Serialize;

use crate::checkpoint::Position;
use crate::config::Config;
use crate::data::{BatchFormat, EpochOrder, ImageSet, Loader};
use crate::engine::{Engine, MaybeDevice};
use crate::optim::{Ema, Sgd};
use crate::strategy::ProgressSink;
use crate::strategy::finite;
use crate::tensorboard::Scalars;
use crate::{Error, Result};
use checkpoint::{TrainCheckpoint, TrainState};

/// Line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub struct TrainRecord {
    /// Epoch, counted from 0.
    pub epoch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Mean training loss over the epoch's batches, each measured at its own step, including the auxiliary
    /// head's loss.
    pub train_loss: f64,
    /// Training accuracy over the epoch, as a fraction.
    pub train_accuracy: f64,
    /// Number of training images in the epoch.
    pub images: usize,
    /// Accuracy on the test images after the epoch.
    pub test_accuracy: f64,
    /// Mean cross-entropy on the test images, without label smoothing and auxiliary head.
    pub test_loss: f64,
    /// Wall-clock seconds of the epoch, since the resume if there was one. They are not part of the line, so
    /// that equal runs write equal lines.
    #[serde(skip)]
    pub seconds: f64,
}

impl Scalars for TrainRecord {
    fn epoch(&self) -> usize {
        self.epoch
    }

    fn scalars(&self) -> Vec<(Cow<'static, str>, f64)> {
        vec![
            ("lr".into(), self.lr),
            ("loss/train".into(), self.train_loss),
            ("loss/test".into(), self.test_loss),
            ("accuracy/train".into(), self.train_accuracy),
            ("accuracy/test".into(), self.test_accuracy),
            ("seconds".into(), self.seconds),
        ]
    }
}

/// Inputs of a training.
#[derive(Clone, Copy, Debug)]
pub struct TrainTask<'a> {
    /// Network to train.
    pub network: &'a Trainable,
    /// Training images.
    pub images: &'a ImageSet,
    /// Test images.
    pub test: &'a ImageSet,
    /// Configuration of the run.
    pub config: &'a Config,
}

/// Writer of a training's results while it runs.
pub trait TrainCheckpointer {
    /// Receives the record of a finished epoch.
    fn epoch(&mut self, record: &TrainRecord) -> Result<()>;
    /// Saves a checkpoint. The records of all earlier epochs have been received before.
    fn save(&mut self, checkpoint: &TrainCheckpoint) -> Result<()>;
}

/// Trains `weights` in place, from their initial values or from a checkpoint, with the same result as without
/// an interruption. Runs on a device or, without one, on the CPU.
///
/// # Errors
/// Fails without training images, for a loss or weight that is not finite, and if `checkpointer` fails.
pub fn train(
    task: &TrainTask<'_>,
    weights: &Weights,
    from: Option<TrainCheckpoint>,
    device: MaybeDevice<'_>,
    recorder: &mut dyn ProgressSink,
    checkpointer: &mut dyn TrainCheckpointer,
) -> Result<()> {
    let TrainTask { network, images, test, config } = *task;
    if images.is_empty() {
        return Err(Error::Data { problem: "no training image could be read".into() });
    }
    let settings = &config.train;
    let (mut sgd, mut ema, mut at) = (Sgd::new(), Ema::default(), Position::default());
    if let Some(from) = from {
        weights.copy_from(&from.state.weights)?;
        (sgd, ema, at) = (from.state.sgd, from.state.ema, from.position);
    }
    let mut engine = Engine::for_training(network, weights, device)?;
    if let Some(reason) = engine.slow() {
        recorder.note(&format!(
            "the fused kernels do not train this network ({reason}), so a step takes several times as long"
        ));
    }
    let all: Vec<usize> = (0..images.len()).collect();
    for epoch in at.epoch..settings.epochs {
        let start = Instant::now();
        let lr = settings.lr(epoch);
        let plan = EpochOrder::epoch(&all, settings.batch, settings.steps, config.seed, "train", epoch);
        let steps = plan.steps();
        recorder.begin(epoch, settings.epochs, steps, at.step);
        std::thread::scope(|scope| {
            let form = BatchFormat::new(engine.takes_bytes(), Some(settings.transform(config.augment)));
            let batches = Loader::start(scope, images, plan.starting_at(at.step), form);
            for (step, batch) in (at.step..).zip(batches) {
                let mut rng = Rng::new(config.seed, &format!("drop_path/{epoch}/{step}"));
                let p = settings.drop_path_at(epoch);
                let paths = drop_path::factors(p, engine.paths(), batch.len(), &mut rng);
                let (smoothing, auxiliary) = (settings.smoothing, settings.auxiliary);
                let extra = Regularisers { smoothing, auxiliary, paths: &paths };
                let (value, right) = engine.gradients(&batch, &extra)?;
                finite("the training loss", value, epoch, step, "train.weights.lr", lr)?;
                engine.step(&mut sgd, &settings.weights, lr)?;
                if settings.ema > 0.0 {
                    engine.average(&mut ema, settings.ema)?;
                }
                recorder.step(value, batch.len());
                at.step += 1;
                at.loss += value;
                at.correct += right;
                at.images += batch.len();
                let every = settings.checkpoint_steps;
                if at.step < steps && every > 0 && at.step.is_multiple_of(every) {
                    checkpointer.save(&point(&mut engine, weights, &mut sgd, &ema, at, lr)?)?;
                }
            }
            Ok::<_, Error>(())
        })?;
        engine.swap(&mut ema)?;
        let ranked = evaluate_with(&mut engine, test, settings.batch)?;
        engine.swap(&mut ema)?;
        checkpointer.epoch(&TrainRecord {
            epoch,
            lr,
            train_loss: at.loss / steps as f64,
            train_accuracy: at.correct as f64 / at.images.max(1) as f64,
            images: at.images,
            test_accuracy: metrics::right(&ranked) as f64 / ranked.len().max(1) as f64,
            test_loss: metrics::loss(&ranked),
            seconds: start.elapsed().as_secs_f64(),
        })?;
        at = Position::start(epoch + 1);
        checkpointer.save(&point(&mut engine, weights, &mut sgd, &ema, at, lr)?)?;
    }
    engine.swap(&mut ema)?;
    engine.store()
}

/// Creates a checkpoint.
///
/// # Errors
/// Fails for a value that is not finite; the previous checkpoint stays.
fn point(
    engine: &mut Engine<'_>,
    weights: &Weights,
    sgd: &mut Sgd,
    ema: &Ema,
    position: Position,
    lr: f64,
) -> Result<TrainCheckpoint> {
    engine.store()?;
    engine.download_velocities(sgd)?;
    let (sgd, ema) = (sgd.clone(), ema.clone());
    let checkpoint =
        TrainCheckpoint { position, state: TrainState { weights: weights.detached()?, sgd, ema } };
    match checkpoint.not_finite()? {
        None => Ok(checkpoint),
        Some((what, value)) => {
            finite(what, value, position.epoch, position.step, "train.weights.lr", lr).map(|()| checkpoint)
        }
    }
}

/// Number of batches for the estimate of running statistics. Each batch keeps nine tenths of the statistics, so
/// the share of the initial variance of 1 falls to 3e-5, which is small beside the variance of any feature map.
const STATISTICS: usize = 100;

/// Estimates the running statistics of weights from another network, by passes in training mode over images
/// without augmentation.
///
/// # Errors
/// Fails for weights that do not fit the network.
pub fn estimate_statistics(
    network: &Trainable,
    weights: &Weights,
    images: &ImageSet,
    config: &Config,
    device: MaybeDevice<'_>,
) -> Result<()> {
    let mut engine = Engine::for_training(network, weights, device)?;
    let all: Vec<usize> = (0..images.len()).collect();
    let (mut left, mut round) = (STATISTICS, 0);
    while left > 0 && !all.is_empty() {
        let plan = EpochOrder::epoch(&all, config.train.batch, left, config.seed, "statistics", round);
        (left, round) = (left - plan.steps(), round + 1);
        std::thread::scope(|scope| {
            Loader::start(scope, images, plan, BatchFormat::new(engine.takes_bytes(), None))
                .try_for_each(|batch| engine.gradients(&batch, &Regularisers::default()).map(|_| ()))
        })?;
    }
    engine.store()
}

/// Runs a network in evaluation mode on images in order, on the CPU.
pub fn evaluate(graph: &Graph, weights: &Weights, images: &ImageSet, batch: usize) -> Result<Vec<Ranked>> {
    evaluate_with(&mut Engine::new(graph, weights)?, images, batch)
}

fn evaluate_with(engine: &mut Engine<'_>, images: &ImageSet, batch: usize) -> Result<Vec<Ranked>> {
    let all: Vec<usize> = (0..images.len()).collect();
    let mut ranked = Vec::new();
    std::thread::scope(|scope| {
        let plan = EpochOrder::in_order(&all, batch);
        let form = BatchFormat::new(engine.takes_bytes(), None);
        for batch in Loader::start(scope, images, plan, form) {
            let logits = engine.predict(&batch)?;
            ranked.extend(logits.iter().zip(&batch.labels).map(|(row, &label)| Ranked::new(row, label)));
        }
        Ok::<_, Error>(())
    })?;
    Ok(ranked)
}
