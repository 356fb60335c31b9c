//! Assembly of a network from a genotype.

pub(crate) mod cells;

use serde::{Deserialize, Serialize};

use crate::genotype::Form;
use crate::graph::{Graph, Value};
use crate::{Error, Genotype, Result};

/// Sizes of a network, besides its genotype. The paper uses 36 channels, 20 layers, 10 classes and 32x32 images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Channels of a node in the first cells; reduction cells double them.
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
    /// Network around the cells.
    #[serde(default)]
    pub skeleton: Skeleton,
}

/// The part of a network around its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Skeleton {
    /// For small images: one stem that keeps the size.
    #[default]
    Cifar,
    /// For large images: two stems, inputs of the first cell, that reduce the size by 4 and by 8.
    ImageNet,
}

/// Number of channels of the stem, as a multiple of the channels of a node.
pub const STEM_MULTIPLIER: usize = 3;

impl NetworkConfig {
    /// Whether the cell at `layer` is a reduction cell, which halves the image: the cells at one third and two thirds
    /// of the depth.
    pub fn is_reduction(&self, layer: usize) -> bool {
        is_reduction(layer, self.layers)
    }

    /// Checks the sizes.
    ///
    /// # Errors
    /// [`Error::Value`] for a size of 0, or one too large for any machine.
    pub fn check(&self) -> Result<()> {
        let ranges = [
            ("channels", self.channels, 1024),
            ("layers", self.layers, 1000),
            ("classes", self.classes, 1 << 20),
            ("in_channels", self.in_channels, 1024),
            ("height", self.height, 1 << 14),
            ("width", self.width, 1 << 14),
        ];
        match ranges.into_iter().find(|(_, n, most)| !(1..=*most).contains(n)) {
            None => Ok(()),
            Some((what, found, most)) => Err(Error::Value {
                what: what.into(),
                found: found.to_string(),
                expected: format!("1 to {most}"),
            }),
        }
    }
}

/// Whether the cell at `layer` of `layers` halves the image.
pub fn is_reduction(layer: usize, layers: usize) -> bool {
    layer == layers / 3 || layer == 2 * layers / 3
}

/// Assembles a network with one input `input` `[N, in, H, W]` and one output `logits` `[N, classes]`.
///
/// # Errors
/// [`Error::Value`] for sizes that [`NetworkConfig::check`] rejects, or a skeleton that the genotype's cells do not
/// support. [`Error::Graph`] for images too small for the network.
pub fn assemble(genotype: &Genotype, config: &NetworkConfig) -> Result<Graph> {
    Ok(Trainable::assemble(genotype, config, false)?.graph)
}

/// A network with the additions for training.
#[derive(Clone, Debug)]
pub struct Trainable {
    /// The network, with a second output `auxiliary` `[N, classes]` if it has an auxiliary head.
    pub graph: Graph,
    /// Wires that drop path may drop, in network order: results of a cell's operations other than identities.
    pub paths: Vec<Value>,
    /// Outputs of the stem and of each cell, in network order.
    pub cells: Vec<Value>,
}

impl Trainable {
    /// Assembles the network of [`assemble`], with an auxiliary head on the cell at two thirds of the depth if
    /// requested.
    ///
    /// # Errors
    /// The errors of [`assemble`], and [`Error::Value`] for images too small for the auxiliary head.
    pub fn assemble(genotype: &Genotype, config: &NetworkConfig, auxiliary: bool) -> Result<Trainable> {
        config.check()?;
        match (&genotype.form, genotype.space()) {
            (Form::Picks(_), Some(space)) => space.network(genotype, config, auxiliary),
            _ => cells::network(genotype, config, auxiliary),
        }
    }
}
