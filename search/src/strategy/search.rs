//! The epochs of a search: batches, steps, measuring, and the architecture at the end.

use std::time::Instant;

use milenas_models::metrics::rank;
use milenas_models::{Genotype, Rng, Space};
use serde::Serialize;

use super::checkpoint::{Checkpoint, Position};
use super::mixture::Pass;
use super::{Moment, Stepper};
use crate::config::Config;
use crate::data::{Loader, Pictures, Plan, halves};
use crate::optim::cosine;
use crate::supernet::{Alphas, Supernet};
use crate::{Error, Result};

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub struct EpochRecord {
    /// Counted from 0.
    pub epoch: usize,
    /// The weights' learning rate.
    pub lr: f64,
    /// Mean over the epoch's batches, as they were met.
    pub train_loss: f64,
    /// The part of the epoch's training images that were right.
    pub train_accuracy: f64,
    /// On the validation half after the epoch, by the supernet with running statistics.
    pub valid_accuracy: f64,
    /// Mean entropy of the edges' mixtures, normal and reduction cells.
    pub entropy: [f64; 2],
    /// Convolutions of the derived normal and reduction cells.
    pub convolutions: [usize; 2],
    /// Skip connections of the derived normal cell: many mean that the search collapses.
    pub skips: usize,
    /// The derived architecture.
    pub genotype: Genotype,
    /// Wall-clock time of the epoch, since a resume if there was one; not in the line, which is the same for equal runs.
    #[serde(skip)]
    pub seconds: f64,
}

/// Hears how a run goes.
pub trait Recorder {
    /// An epoch of `steps` steps begins, or goes on after `done` of them.
    fn begin(&mut self, epoch: usize, epochs: usize, steps: usize, done: usize);
    /// A step of `images` images is done.
    fn step(&mut self, loss: f64, images: usize);
}

/// Keeps what a search finds as it goes.
pub trait Keeper {
    /// An epoch is over.
    fn epoch(&mut self, record: &EpochRecord) -> Result<()>;
    /// A point to go on from; the records of all epochs before it have been kept.
    fn save(&mut self, checkpoint: &Checkpoint) -> Result<()>;
}

/// What a search leaves.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The architecture at the end.
    pub genotype: Genotype,
    /// The logits it comes from.
    pub alphas: Alphas,
}

/// Searches with a supernet on images from its beginning, or goes on from a checkpoint and ends as if there had been no
/// interruption. `keeper` gets each epoch's record, and a checkpoint after every epoch and `checkpoint_steps` steps.
///
/// # Errors
/// Fewer than two images, a loss or weight that is not finite, a failure of `keeper`.
pub fn search(
    net: &mut dyn Supernet,
    pictures: &Pictures,
    config: &Config,
    from: Option<Checkpoint>,
    recorder: &mut dyn Recorder,
    keeper: &mut dyn Keeper,
) -> Result<Outcome> {
    let (space, seed) = (Space::darts(), config.seed);
    let (train, valid) = halves(pictures.len(), config.search.train_portion, seed);
    if train.is_empty() || valid.is_empty() {
        let problem = format!("{} training images, a search needs two or more", pictures.len());
        return Err(Error::Data { problem });
    }
    let mut alphas = Alphas::init(&space, seed);
    let mut stepper = Stepper::default();
    let mut at = Position::default();
    if let Some(from) = from {
        net.load(&from.weights)?;
        stepper.restore(from.adam, from.sgd);
        (alphas, at) = (from.alphas, from.position);
    }
    let settings = &config.search;
    for epoch in at.epoch..settings.epochs {
        let start = Instant::now();
        let lr = cosine(settings.weights.lr, settings.weights.lr_min, epoch, settings.epochs);
        let plan = Plan::epoch(&train, settings.batch, settings.steps, seed, "train", epoch);
        let steps = plan.steps();
        let draws = Plan::draws(&valid, settings.batch, steps, seed, "valid", epoch);
        recorder.begin(epoch, settings.epochs, steps, at.step);
        std::thread::scope(|scope| {
            let train = Loader::start(scope, pictures, plan.starting_at(at.step), Some(config.augment));
            let valid = Loader::start(scope, pictures, draws.starting_at(at.step), Some(config.augment));
            for (step, (train, valid)) in (at.step..).zip(train.zip(valid)) {
                let moment = Moment { seed, epoch, step, lr };
                let seen = stepper.step(net, &mut alphas, [&train, &valid], settings, moment)?;
                for (what, value) in
                    [("the training loss", Some(seen.train_loss)), ("the validation loss", seen.valid_loss)]
                {
                    finite(what, value.unwrap_or_default(), epoch, step, "search.weights.lr", lr)?;
                }
                recorder.step(seen.train_loss, train.len());
                at.step += 1;
                at.loss += seen.train_loss;
                at.correct += seen.train_correct;
                at.images += train.len();
                if at.step < steps
                    && settings.checkpoint_steps > 0
                    && at.step % settings.checkpoint_steps == 0
                {
                    keeper.save(&checkpoint(net, &alphas, &stepper, at, lr)?)?;
                }
            }
            Ok::<_, Error>(())
        })?;
        let genotype = alphas.genotype(&space)?;
        keeper.epoch(&EpochRecord {
            epoch,
            lr,
            train_loss: at.loss / steps as f64,
            train_accuracy: at.correct as f64 / at.images.max(1) as f64,
            valid_accuracy: accuracy(net, pictures, &valid, &alphas, config, epoch)?,
            entropy: alphas.entropy(),
            convolutions: [genotype.normal.convolutions(), genotype.reduce.convolutions()],
            skips: genotype.normal.skips(),
            genotype,
            seconds: start.elapsed().as_secs_f64(),
        })?;
        at = Position::start(epoch + 1);
        keeper.save(&checkpoint(net, &alphas, &stepper, at, lr)?)?;
    }
    Ok(Outcome { genotype: alphas.genotype(&space)?, alphas })
}

/// # Errors
/// A number that is not finite: the checkpoint before stays the last good one.
fn checkpoint(
    net: &dyn Supernet,
    alphas: &Alphas,
    stepper: &Stepper,
    position: Position,
    lr: f64,
) -> Result<Checkpoint> {
    let (adam, sgd) = stepper.optimisers();
    let (adam, sgd, alphas) = (adam.clone(), sgd.clone(), alphas.clone());
    let checkpoint = Checkpoint { position, weights: net.weights()?, alphas, adam, sgd };
    match checkpoint.not_finite()? {
        None => Ok(checkpoint),
        Some((what, value)) => {
            finite(what, value, position.epoch, position.step, "search.weights.lr", lr).map(|()| checkpoint)
        }
    }
}

pub(crate) fn finite(
    what: &'static str,
    value: f64,
    epoch: usize,
    step: usize,
    key: &'static str,
    lr: f64,
) -> Result<()> {
    match value.is_finite() {
        true => Ok(()),
        false => Err(Error::NotFinite { what, value, epoch, step, key, advice: lr / 10.0 }),
    }
}

/// Of the validation images in order, not augmented (the released code does augment them here); no more than an
/// epoch's steps visit.
fn accuracy(
    net: &mut dyn Supernet,
    pictures: &Pictures,
    valid: &[usize],
    alphas: &Alphas,
    config: &Config,
    epoch: usize,
) -> Result<f64> {
    let settings = &config.search;
    let most = if settings.steps == 0 { usize::MAX } else { settings.steps * settings.batch };
    let valid = &valid[..valid.len().min(most)];
    let mixing = settings.mixing(epoch);
    let mut correct = 0;
    std::thread::scope(|scope| {
        let batches = Loader::start(scope, pictures, Plan::in_order(valid, settings.batch), None);
        for (step, batch) in batches.enumerate() {
            let draw = || Rng::new(config.seed, &format!("gumbel/{epoch}/valid/{step}"));
            let pass = Pass::draw(alphas, net.config(), mixing, draw);
            let logits = net.predict_cells(&batch, &pass.cells(net.config()))?;
            let classes = logits.len() / batch.len();
            let rows = logits.chunks_exact(classes).zip(&batch.labels);
            correct += rows.filter(|(row, label)| rank(row, **label) == 0).count();
        }
        Ok::<_, Error>(())
    })?;
    Ok(correct as f64 / valid.len() as f64)
}
