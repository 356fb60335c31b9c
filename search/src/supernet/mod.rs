//! The supernet: every candidate operation on every edge, mixed by the architecture's weights.

pub mod fused;

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
