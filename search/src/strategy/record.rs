//! Inputs, progress records and results of a search.

use std::borrow::Cow;

use milenas_models::metrics::Ranked;
use milenas_models::{Genotype, NetworkConfig};
use serde::Serialize;

use super::checkpoint::SearchCheckpoint;
use super::sizes::BestBySize;
use crate::Result;
use crate::config::Config;
use crate::data::ImageSet;
use crate::supernet::{Alphas, Rows};
use crate::tensorboard::Scalars;

/// Line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub struct EpochRecord {
    /// Epoch, counted from 0.
    pub epoch: usize,
    /// Learning rate of the weights.
    pub lr: f64,
    /// Mean training loss over the epoch's batches, each measured at its own step.
    pub train_loss: f64,
    /// Training accuracy over the epoch, as a fraction.
    pub train_accuracy: f64,
    /// Number of training images in the epoch.
    pub images: usize,
    /// Accuracy of the supernet on the validation split after the epoch, with running BatchNorm statistics.
    pub valid_accuracy: f64,
    /// Mean cross-entropy of the supernet on the validation split.
    pub valid_loss: f64,
    /// Mean entropy of the mixtures, for each group of choices: normal and reduction cells.
    pub entropy: Vec<f64>,
    /// Number of convolutions in the derived normal and reduction cells.
    pub convolutions: [usize; 2],
    /// Parameters of the derived network, at the size for evaluation.
    pub params: u64,
    /// Multiply-accumulates per image of the derived network.
    pub macs: u64,
    /// Number of skip connections in the derived normal cell; [`COLLAPSE`] or more indicate a collapsed search.
    pub skips: usize,
    /// Weights of the candidates, for each group of choices a row per choice.
    pub mixture: Vec<Rows>,
    /// Names of the groups; not part of the line.
    #[serde(skip)]
    pub groups: Vec<&'static str>,
    /// Derived architecture.
    pub genotype: Genotype,
    /// Prediction for each validation image; not part of the line.
    #[serde(skip)]
    pub ranked: Vec<Ranked>,
    /// Wall-clock seconds of the epoch, since the resume if there was one. They are not part of the line, so
    /// that equal runs write equal lines.
    #[serde(skip)]
    pub seconds: f64,
}

impl Scalars for EpochRecord {
    fn epoch(&self) -> usize {
        self.epoch
    }

    fn scalars(&self) -> Vec<(Cow<'static, str>, f64)> {
        let mut scalars: Vec<(Cow<'static, str>, f64)> = vec![
            ("lr".into(), self.lr),
            ("loss/train".into(), self.train_loss),
            ("loss/valid".into(), self.valid_loss),
            ("accuracy/train".into(), self.train_accuracy),
            ("accuracy/valid".into(), self.valid_accuracy),
        ];
        let groups = self.groups.iter().zip(&self.entropy);
        scalars.extend(groups.map(|(group, entropy)| (format!("entropy/{group}").into(), *entropy)));
        scalars.extend([
            ("convolutions/normal".into(), self.convolutions[0] as f64),
            ("convolutions/reduction".into(), self.convolutions[1] as f64),
            ("skips".into(), self.skips as f64),
            ("size/parameters".into(), self.params as f64),
            ("size/macs".into(), self.macs as f64),
            ("seconds".into(), self.seconds),
        ]);
        scalars
    }
}

/// Number of skip connections in the normal cell from which a search counts as collapsed. DARTS+ (Liang et al.,
/// 2019) stops at two, and P-DARTS (Chen et al., 2019) keeps exactly two.
pub const COLLAPSE: usize = 3;

/// Receiver of progress reports.
pub trait ProgressSink {
    /// Called with a remark for the user; ignored by default.
    fn note(&mut self, _text: &str) {}
    /// Reports the start of an epoch of `steps` steps, `done` of which are done already.
    fn begin(&mut self, epoch: usize, epochs: usize, steps: usize, done: usize);
    /// Reports a finished step on `images` images.
    fn step(&mut self, loss: f64, images: usize);
}

/// Writer of a search's results while it runs.
pub trait SearchCheckpointer {
    /// Receives the record of a finished epoch.
    fn epoch(&mut self, record: &EpochRecord) -> Result<()>;
    /// Saves a checkpoint. The records of all earlier epochs have been received before.
    fn save(&mut self, checkpoint: &SearchCheckpoint) -> Result<()>;
    /// Returns whether the search should stop after the current step.
    fn out_of_time(&self) -> bool {
        false
    }
}

/// Inputs of a search.
#[derive(Clone, Copy, Debug)]
pub struct SearchTask<'a> {
    /// Training images; one part trains the weights, the other evaluates the architecture.
    pub images: &'a ImageSet,
    /// Configuration of the run.
    pub config: &'a Config,
    /// Network for evaluation, in which architectures are measured.
    pub evaluation: NetworkConfig,
}

/// Reason for the end of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The last epoch is done.
    Epochs,
    /// The derived architecture has the expected size.
    Size,
    /// The time budget is used up, by [`SearchCheckpointer::out_of_time`].
    Time,
}

/// Result of a search.
#[derive(Clone, Debug)]
pub struct SearchOutcome {
    /// Reason for the end.
    pub ended: StopReason,
    /// Best architecture of every size.
    pub sizes: BestBySize,
    /// Architecture at the end.
    pub genotype: Genotype,
    /// Logits of that architecture.
    pub alphas: Alphas,
}
