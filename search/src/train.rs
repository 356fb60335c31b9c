//! Training of a derived network from scratch: SGD with momentum and a cosine, crop and flip.

use std::time::Instant;

use milenas_models::metrics::Ranked;
use milenas_models::{Graph, Weights};
use serde::Serialize;

use crate::config::Config;
use crate::data::{Loader, Pictures, Plan};
use crate::engine::Engine;
use crate::optim::{Sgd, cosine};
use crate::strategy::Recorder;
use crate::strategy::finite;
use crate::tensorboard::Scalars;
use crate::{Error, Result};

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub struct TrainRecord {
    /// Counted from 0.
    pub epoch: usize,
    /// The learning rate.
    pub lr: f64,
    /// Mean over the epoch's batches, as they were met.
    pub train_loss: f64,
    /// The part of the epoch's images that were right.
    pub train_accuracy: f64,
    /// On the test images after the epoch.
    pub test_accuracy: f64,
    /// Wall-clock time of the epoch; not in the line, which is the same for equal runs.
    #[serde(skip)]
    pub seconds: f64,
}

impl Scalars for TrainRecord {
    fn epoch(&self) -> usize {
        self.epoch
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("lr", self.lr),
            ("loss/train", self.train_loss),
            ("accuracy/train", self.train_accuracy),
            ("accuracy/test", self.test_accuracy),
            ("seconds", self.seconds),
        ]
    }
}

/// Trains `weights` in place, and hands each epoch's record to `keep`.
///
/// # Errors
/// No training images, a loss that is not finite, a failure of `keep`.
pub fn train(
    graph: &Graph,
    weights: &Weights,
    pictures: &Pictures,
    test: &Pictures,
    config: &Config,
    recorder: &mut dyn Recorder,
    mut keep: impl FnMut(&TrainRecord) -> Result<()>,
) -> Result<()> {
    if pictures.is_empty() {
        return Err(Error::Data { problem: "no training image could be read".into() });
    }
    let settings = &config.train;
    let mut engine = Engine::new(graph, weights)?;
    let all: Vec<usize> = (0..pictures.len()).collect();
    let mut sgd = Sgd::new();
    for epoch in 0..settings.epochs {
        let start = Instant::now();
        let lr = cosine(settings.weights.lr, settings.weights.lr_min, epoch, settings.epochs);
        let plan = Plan::epoch(&all, settings.batch, settings.steps, config.seed, "train", epoch);
        let steps = plan.steps();
        recorder.begin(epoch, settings.epochs, steps, 0);
        let (mut total, mut correct, mut images) = (0.0, 0, 0);
        std::thread::scope(|scope| {
            for (step, batch) in Loader::start(scope, pictures, plan, Some(config.augment)).enumerate() {
                let (value, right) = engine.gradients(&batch)?;
                finite("the training loss", value, epoch, step, "train.weights.lr", lr)?;
                engine.step(&mut sgd, &settings.weights, lr)?;
                recorder.step(value, batch.len());
                total += value;
                correct += right;
                images += batch.len();
            }
            Ok::<_, Error>(())
        })?;
        engine.store()?;
        let ranks = evaluate_with(&mut engine, test, settings.batch)?;
        keep(&TrainRecord {
            epoch,
            lr,
            train_loss: total / steps as f64,
            train_accuracy: correct as f64 / images.max(1) as f64,
            test_accuracy: ranks.iter().filter(|r| r.rank == 0).count() as f64 / ranks.len().max(1) as f64,
            seconds: start.elapsed().as_secs_f64(),
        })?;
    }
    Ok(())
}

/// Runs a network on images in order, in evaluation mode.
pub fn evaluate(graph: &Graph, weights: &Weights, pictures: &Pictures, batch: usize) -> Result<Vec<Ranked>> {
    evaluate_with(&mut Engine::new(graph, weights)?, pictures, batch)
}

fn evaluate_with(engine: &mut Engine<'_>, pictures: &Pictures, batch: usize) -> Result<Vec<Ranked>> {
    let all: Vec<usize> = (0..pictures.len()).collect();
    let mut ranked = Vec::new();
    std::thread::scope(|scope| {
        for batch in Loader::start(scope, pictures, Plan::in_order(&all, batch), None) {
            let logits = engine.predict(&batch)?;
            ranked.extend(logits.iter().zip(&batch.labels).map(|(row, &label)| Ranked::new(row, label)));
        }
        Ok::<_, Error>(())
    })?;
    Ok(ranked)
}
