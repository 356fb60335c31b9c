//! The supernet: every candidate operation on every edge, mixed by the architecture's weights.

mod alphas;
pub mod reference;

pub use alphas::Alphas;

use milenas_models::Weights;

use crate::Result;
use crate::data::Batch;

/// The supernet that programs use, for images `[in_channels, height, width]`.
pub fn new_supernet(
    config: &SupernetConfig,
    height: usize,
    width: usize,
    seed: u64,
) -> Result<Box<dyn Supernet>> {
    Ok(Box::new(reference::Reference::new(config, height, width, seed)?))
}

/// Moves one tensor: its index, its weights, and its gradient of the last evaluation that wanted one.
pub type UpdateFn<'a> = dyn FnMut(usize, &mut [f32], &[f32]) + 'a;

/// What a search asks of a supernet: losses and gradients at its weights and a mixture, and a walk over its weights.
pub trait Supernet {
    /// Loss and gradients on a batch, in training mode: batch statistics, which move the running ones.
    fn evaluate(&mut self, batch: &Batch, mixture: &Mixture, want: Want) -> Result<Evaluation>;

    /// Logits `[N, classes]` with running statistics.
    fn predict(&mut self, batch: &Batch, mixture: &Mixture) -> Result<Vec<f32>>;

    /// The norm of the last weight gradients, all together.
    fn gradient_norm(&self) -> Result<f64>;

    /// A weight's last gradient by its PyTorch name, row-major.
    fn gradient(&self, name: &str) -> Result<Vec<f32>>;

    /// Calls `step(index, weights, gradient)` for every trainable tensor, in a fixed order.
    fn update(&mut self, step: &mut UpdateFn) -> Result<()>;

    /// Weights and statistics by PyTorch's names.
    fn weights(&self) -> Result<Weights>;

    /// Replaces weights and statistics.
    ///
    /// # Errors
    /// A name that is missing or unexpected, another shape.
    fn load(&mut self, weights: &Weights) -> Result<()>;
}

/// The make of a supernet (MiLeNAS, section 4; DARTS, section 3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SupernetConfig {
    /// Channels of the first cell; a reduction cell doubles them.
    pub channels: usize,
    /// Cells; those at `layers / 3` and `2 * layers / 3` reduce.
    pub layers: usize,
    /// Classes told apart.
    pub classes: usize,
    /// Channels of an image.
    pub in_channels: usize,
    /// The stem has this many times `channels`.
    pub stem_multiplier: usize,
    /// Intermediate nodes of a cell.
    pub nodes: usize,
}

impl SupernetConfig {
    /// The paper's search network for 32x32 colour images: 16 channels, 8 cells of 4 nodes.
    pub fn paper(classes: usize) -> SupernetConfig {
        SupernetConfig { channels: 16, layers: 8, classes, in_channels: 3, stem_multiplier: 3, nodes: 4 }
    }

    /// Edges of a cell: node `i` has one from each of the two inputs and of the earlier nodes.
    pub fn edges(&self) -> usize {
        (0..self.nodes).map(|i| 2 + i).sum()
    }

    /// Whether a cell reduces.
    pub fn reduces(&self, cell: usize) -> bool {
        cell == self.layers / 3 || cell == 2 * self.layers / 3
    }
}

/// Candidate operations of an edge, in the order of the mixture's columns.
pub const CANDIDATES: usize = 8;

/// Mixture weights, after the softmax: for normal cells, then for reduction cells, a row per edge in the order
/// (0, 1), (0, 1, 2), (0, 1, 2, 3), ...; columns none, max_pool_3x3, avg_pool_3x3, skip_connect,
/// sep_conv_3x3, sep_conv_5x5, dil_conv_3x3, dil_conv_5x5.
pub type Mixture = [Vec<[f32; CANDIDATES]>; 2];

/// Which gradients a training pass is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Those of the network's weights.
    pub weights: bool,
    /// Those of the mixture.
    pub mixture: bool,
}

/// What a training pass found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Mean cross-entropy of the batch.
    pub loss: f64,
    /// Images whose label has the largest logit.
    pub correct: usize,
    /// Gradient of the loss by the mixture weights (before the softmax's own gradient);
    /// zeros where it was not wanted.
    pub mixture_gradient: Mixture,
}
