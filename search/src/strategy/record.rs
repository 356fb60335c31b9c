//! What goes into a search and what comes out of it, on the way and at the end.

use milenas_models::metrics::Ranked;
use milenas_models::{Genotype, NetworkConfig};
use serde::Serialize;

use super::checkpoint::SearchCheckpoint;
use super::sizes::BestBySize;
use crate::Result;
use crate::config::Config;
use crate::data::ImageSet;
use crate::supernet::{Alphas, Mixture};
use crate::tensorboard::Scalars;

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
    /// How many training images that were.
    pub images: usize,
    /// On the validation half after the epoch, by the supernet with running statistics.
    pub valid_accuracy: f64,
    /// Its mean cross-entropy there.
    pub valid_loss: f64,
    /// Mean entropy of the edges' mixtures, normal and reduction cells.
    pub entropy: [f64; 2],
    /// Convolutions of the derived normal and reduction cells.
    pub convolutions: [usize; 2],
    /// Parameters of the derived network, at the size for evaluation.
    pub params: u64,
    /// Its multiply-accumulates of an image.
    pub macs: u64,
    /// Skip connections of the derived normal cell: [many](COLLAPSE) mean that the search collapses.
    pub skips: usize,
    /// How much each candidate weighs: normal and reduction cells, a row per edge.
    pub mixture: Mixture,
    /// The derived architecture.
    pub genotype: Genotype,
    /// How each validation image fared; not in the line.
    #[serde(skip)]
    pub ranked: Vec<Ranked>,
    /// Wall-clock time of the epoch, since a resume if there was one; not in the line, which is the same for equal runs.
    #[serde(skip)]
    pub seconds: f64,
}

impl Scalars for EpochRecord {
    fn epoch(&self) -> usize {
        self.epoch
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("lr", self.lr),
            ("loss/train", self.train_loss),
            ("loss/valid", self.valid_loss),
            ("accuracy/train", self.train_accuracy),
            ("accuracy/valid", self.valid_accuracy),
            ("entropy/normal", self.entropy[0]),
            ("entropy/reduction", self.entropy[1]),
            ("convolutions/normal", self.convolutions[0] as f64),
            ("convolutions/reduction", self.convolutions[1] as f64),
            ("skips", self.skips as f64),
            ("size/parameters", self.params as f64),
            ("size/macs", self.macs as f64),
            ("seconds", self.seconds),
        ]
    }
}

/// From so many skip connections of the normal cell on a search is said to collapse: DARTS+ (Liang et al., 2019) stops at
/// two, P-DARTS (Chen et al., 2019) keeps exactly two.
pub const COLLAPSE: usize = 3;

/// Hears how a run goes.
pub trait ProgressSink {
    /// An epoch of `steps` steps begins, or goes on after `done` of them.
    fn begin(&mut self, epoch: usize, epochs: usize, steps: usize, done: usize);
    /// A step of `images` images is done.
    fn step(&mut self, loss: f64, images: usize);
}

/// Keeps what a search finds as it goes.
pub trait SearchCheckpointer {
    /// An epoch is over.
    fn epoch(&mut self, record: &EpochRecord) -> Result<()>;
    /// A point to go on from; the records of all epochs before it have been kept.
    fn save(&mut self, checkpoint: &SearchCheckpoint) -> Result<()>;
    /// Whether the search is to end with the step just done.
    fn out_of_time(&self) -> bool {
        false
    }
}

/// What a search is about.
#[derive(Clone, Copy, Debug)]
pub struct SearchTask<'a> {
    /// The training images, of which one part trains the weights and the other judges the architecture.
    pub pictures: &'a ImageSet,
    /// Everything that decides the search besides them.
    pub config: &'a Config,
    /// The network for evaluation, at whose size architectures are measured.
    pub evaluation: NetworkConfig,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It came to its last epoch.
    Epochs,
    /// The derived architecture has the expected size.
    Size,
    /// [`Keeper::out_of_time`].
    Time,
}

/// What a search leaves.
#[derive(Clone, Debug)]
pub struct SearchOutcome {
    /// Why it ended.
    pub ended: StopReason,
    /// The best of every size.
    pub sizes: BestBySize,
    /// The architecture at the end.
    pub genotype: Genotype,
    /// The logits it comes from.
    pub alphas: Alphas,
}
