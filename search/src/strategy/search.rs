//! The epochs of a search: batches, steps, measuring, and the architecture at the end.

use std::time::Instant;

use milenas_models::metrics::rank;
use milenas_models::{Genotype, Rng, Space};
use serde::Serialize;

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
    /// Wall-clock time of the epoch.
    pub seconds: f64,
}

/// Hears how a run goes.
pub trait Recorder {
    /// An epoch of `steps` steps begins.
    fn begin(&mut self, epoch: usize, epochs: usize, steps: usize);
    /// A step of `images` images is done.
    fn step(&mut self, loss: f64, images: usize);
}

/// What a search leaves.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The architecture at the end.
    pub genotype: Genotype,
    /// The logits it comes from.
    pub alphas: Alphas,
}

/// Searches with a supernet on images, and hands each epoch's record to `keep`.
///
/// # Errors
/// Fewer than two images, a loss that is not finite, a failure of `keep`.
pub fn search(
    net: &mut dyn Supernet,
    pictures: &Pictures,
    config: &Config,
    recorder: &mut dyn Recorder,
    mut keep: impl FnMut(&EpochRecord) -> Result<()>,
) -> Result<Outcome> {
    let (space, seed) = (Space::darts(), config.seed);
    let (train, valid) = halves(pictures.len(), config.search.train_portion, seed);
    if train.is_empty() || valid.is_empty() {
        let problem = format!("{} training images, a search needs two or more", pictures.len());
        return Err(Error::Data { problem });
    }
    let mut alphas = Alphas::init(&space, seed);
    let mut stepper = Stepper::default();
    let settings = &config.search;
    for epoch in 0..settings.epochs {
        let start = Instant::now();
        let lr = cosine(settings.weights.lr, settings.weights.lr_min, epoch, settings.epochs);
        let plan = Plan::epoch(&train, settings.batch, settings.steps, seed, "train", epoch);
        let steps = plan.steps();
        let draws = Plan::draws(&valid, settings.batch, steps, seed, "valid", epoch);
        recorder.begin(epoch, settings.epochs, steps);
        let (mut loss, mut correct, mut images) = (0.0, 0, 0);
        std::thread::scope(|scope| {
            let train = Loader::start(scope, pictures, plan, Some(config.augment));
            let valid = Loader::start(scope, pictures, draws, Some(config.augment));
            for (step, (train, valid)) in train.zip(valid).enumerate() {
                let at = Moment { seed, epoch, step, lr };
                let seen = stepper.step(net, &mut alphas, [&train, &valid], settings, at)?;
                for (what, value) in
                    [("the training loss", Some(seen.train_loss)), ("the validation loss", seen.valid_loss)]
                {
                    finite(what, value.unwrap_or_default(), epoch, step, "search.weights.lr", lr)?;
                }
                recorder.step(seen.train_loss, train.len());
                loss += seen.train_loss;
                correct += seen.train_correct;
                images += train.len();
            }
            Ok::<_, Error>(())
        })?;
        let genotype = alphas.genotype(&space)?;
        keep(&EpochRecord {
            epoch,
            lr,
            train_loss: loss / steps as f64,
            train_accuracy: correct as f64 / images.max(1) as f64,
            valid_accuracy: accuracy(net, pictures, &valid, &alphas, config, epoch)?,
            entropy: alphas.entropy(),
            convolutions: [genotype.normal.convolutions(), genotype.reduce.convolutions()],
            skips: genotype.normal.skips(),
            genotype,
            seconds: start.elapsed().as_secs_f64(),
        })?;
    }
    Ok(Outcome { genotype: alphas.genotype(&space)?, alphas })
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
