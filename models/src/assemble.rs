//! Assembly of a network from a genotype: stem, cells and classifier, in DARTS' variants for CIFAR and ImageNet and
//! that of NAS-Bench-201.

use serde::{Deserialize, Serialize};

use crate::blocks;
pub use crate::blocks::{head, last_activation, residual_reduction, stem};
use crate::genotype::{Cell, Wiring};
use crate::graph::{Builder, Fact, Graph, Value};
use crate::op::{Add, Concat};
use crate::primitive::{Primitive, Style};
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
        layer == self.layers / 3 || layer == 2 * self.layers / 3
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
        network(genotype, config, auxiliary)
    }
}

fn network(genotype: &Genotype, config: &NetworkConfig, with_auxiliary: bool) -> Result<Trainable> {
    config.check()?;
    let (mut auxiliary, mut paths) = (None, Vec::new());
    let mut b = Builder::new();
    let image = b.input("input", Fact::image(config.in_channels, config.height, config.width))?;
    let wiring = genotype.wiring();
    let mut inputs = match (wiring, config.skeleton) {
        (Wiring::TwoEdges, Skeleton::Cifar) => {
            vec![blocks::stem(&mut b, image, STEM_MULTIPLIER * config.channels)?; 2]
        }
        (Wiring::TwoEdges, Skeleton::ImageNet) => {
            blocks::shrinking_stems(&mut b, image, config.channels)?.to_vec()
        }
        (Wiring::Complete, Skeleton::Cifar) => vec![blocks::stem(&mut b, image, config.channels)?],
        (Wiring::Complete, Skeleton::ImageNet) => {
            let (found, expected) = ("imagenet".into(), "cifar, for cells of NAS-Bench-201".into());
            return Err(Error::Value { what: "skeleton".into(), found, expected });
        }
    };
    let (mut channels, mut cells) = (config.channels, vec![inputs[inputs.len() - 1]]);
    for layer in 0..config.layers {
        let reduction = config.is_reduction(layer);
        let cell = if reduction { genotype.reduce.as_ref() } else { Some(&genotype.normal) };
        channels *= 1 + usize::from(reduction);
        let reduced = match layer {
            0 => config.skeleton == Skeleton::ImageNet,
            _ => config.is_reduction(layer - 1),
        };
        let out = b.scope(format!("cells.{layer}"), |b| {
            let Some(cell) = cell else {
                return blocks::residual_reduction(b, inputs[0], channels, Style::Derived);
            };
            let states = match inputs[..] {
                [before, last] => preprocess(b, [before, last], channels, reduced, Style::Derived)?.to_vec(),
                _ => inputs.clone(),
            };
            emit_cell(b, cell, states, channels, reduction, &mut paths)
        })?;
        inputs.remove(0);
        inputs.push(out);
        cells.push(out);
        if with_auxiliary && layer == 2 * config.layers / 3 {
            auxiliary = Some(blocks::auxiliary_head(&mut b, out, config.classes, config.skeleton)?);
        }
    }
    let last = inputs[inputs.len() - 1];
    let last = match wiring {
        Wiring::TwoEdges => last,
        Wiring::Complete => blocks::last_activation(&mut b, last)?,
    };
    let logits = blocks::head(&mut b, last, config.classes)?;
    b.output("logits", logits);
    if let Some(auxiliary) = auxiliary {
        b.output("auxiliary", auxiliary);
    }
    Ok(Trainable { graph: b.finish()?, paths, cells })
}

/// Converts a cell's two inputs to its channels and size. `reduced` is true if the cell before was a reduction cell,
/// so that the older input has twice the size.
pub fn preprocess(
    b: &mut Builder,
    inputs: [Value; 2],
    channels: usize,
    reduced: bool,
    style: Style,
) -> Result<[Value; 2]> {
    let older = b.scope("pre0", |b| match reduced {
        true => blocks::factorized_reduce(b, inputs[0], channels, style.affine()),
        false => blocks::relu_conv_bn(b, inputs[0], channels, 1, 1, style.affine()),
    })?;
    let newer = b.scope("pre1", |b| blocks::relu_conv_bn(b, inputs[1], channels, 1, 1, style.affine()))?;
    Ok([older, newer])
}

fn emit_cell(
    b: &mut Builder,
    cell: &Cell,
    mut states: Vec<Value>,
    channels: usize,
    reduction: bool,
    paths: &mut Vec<Value>,
) -> Result<Value> {
    let inputs = states.len();
    let mut index = 0;
    for (node, edges) in cell.nodes().enumerate() {
        let mut sum = None;
        for (place, edge) in edges.iter().enumerate() {
            // Only the cell's inputs still have the full size.
            let stride = if reduction && edge.from < inputs { 2 } else { 1 };
            let from = states[edge.from];
            let y = b.scope(format!("ops.{index}"), |b| {
                edge.primitive.emit(b, from, channels, stride, Style::Derived)
            })?;
            index += 1;
            let identity = match edge.primitive {
                Primitive::None => true,
                primitive => primitive == Primitive::SkipConnect && stride == 1,
            };
            paths.extend((!identity).then_some(y));
            sum = Some(match sum {
                None => y,
                Some(x) if place == 1 => b.wire(&format!("nodes.{node}"), Add, &[x, y])?,
                Some(x) => b.wire(&format!("nodes.{node}.{place}"), Add, &[x, y])?,
            });
        }
        states.extend(sum);
    }
    if cell.wiring() == Wiring::Complete {
        return Ok(states[states.len() - 1]);
    }
    let parts: Vec<Value> = cell.concat().iter().map(|&state| states[state]).collect();
    b.wire("concat", Concat { axis: 1 }, &parts)
}
