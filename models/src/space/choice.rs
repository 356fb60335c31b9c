//! Choices of a space, and the graph of all their candidates.

use crate::graph::{Graph, Value};

/// Choice among candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Group for tables and curves, e.g. `normal`.
    pub group: &'static str,
    /// Label within the group.
    pub name: String,
    /// Index of the node within the group. Choices of a group with the same node compete: with edge normalisation, their
    /// weights sum to 1 (PC-DARTS, section 3.3).
    pub node: usize,
    /// Names of the candidates, in the order of their logits.
    pub candidates: Vec<String>,
}

/// Supernet as one graph.
#[derive(Clone, Debug)]
pub struct ChoiceGraph {
    /// The graph, from `input` `[N, in, H, W]` to `logits` `[N, classes]`.
    pub graph: Graph,
    /// Sites, in network order.
    pub sites: Vec<Site>,
}

/// Place in a supernet where a choice is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Index of the choice.
    pub choice: usize,
    /// Wires that the weight of each candidate multiplies. A candidate without a wire is zero.
    pub candidates: Vec<Vec<Value>>,
}

/// Sizes of a supernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupernetSize {
    /// Channels of a node in the first cells.
    pub channels: usize,
    /// Number of cells.
    pub layers: usize,
    /// Number of classes.
    pub classes: usize,
    /// Channels of the image.
    pub in_channels: usize,
    /// Rows of the image.
    pub height: usize,
    /// Columns of the image.
    pub width: usize,
    /// Factor between the channels of the stem and `channels`, in spaces with a wider stem.
    pub stem_multiplier: usize,
    /// Divisor of the channels that candidates see (PC-DARTS, section 3.2); 1 for all.
    pub partial: usize,
}

impl SupernetSize {
    /// Returns the paper's sizes (16 channels, 8 cells, 10 classes) for images of a size.
    pub const fn for_images(in_channels: usize, height: usize, width: usize) -> Self {
        SupernetSize {
            channels: 16,
            layers: 8,
            classes: 10,
            in_channels,
            height,
            width,
            stem_multiplier: crate::assemble::STEM_MULTIPLIER,
            partial: 1,
        }
    }
}
