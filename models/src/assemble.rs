//! From a genotype to a network: stem, cells, classifier (DARTS' forms for CIFAR and for ImageNet, and that of NAS-Bench-201).

use serde::{Deserialize, Serialize};

use crate::blocks;
pub use crate::blocks::{head, last_activation, residual_reduction, stem};
use crate::genotype::{Cell, Wiring};
use crate::graph::{Builder, Fact, Graph, Value};
use crate::op::{Add, Concat};
use crate::primitive::{Primitive, Style};
use crate::{Error, Genotype, Result};

/// What a network is besides its genotype. The paper's: 36 channels, 20 layers, 10 classes, 32x32 images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Channels of a node in the first cells; reductions double them.
    pub channels: usize,
    /// Cells.
    pub layers: usize,
    /// Labels.
    pub classes: usize,
    /// Channels of the image.
    pub in_channels: usize,
    /// Rows of the image.
    pub height: usize,
    /// Columns of the image.
    pub width: usize,
    /// What is around the cells.
    #[serde(default)]
    pub skeleton: Skeleton,
}

/// What is around the cells of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Skeleton {
    /// For small images: one stem that keeps the size.
    #[default]
    Cifar,
    /// For large images: the first cell reads two stems that shrink by 4 and by 8.
    ImageNet,
}

/// The stem has this many times the channels of a node.
pub const STEM_MULTIPLIER: usize = 3;

impl NetworkConfig {
    /// Whether the cell at `layer` halves the image: those at a third and two thirds.
    pub fn is_reduction(&self, layer: usize) -> bool {
        layer == self.layers / 3 || layer == 2 * self.layers / 3
    }

    /// # Errors
    /// A size of 0, or beyond what any machine trains.
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

/// One input `input` `[N, in, H, W]`, one output `logits` `[N, classes]`.
pub fn assemble(genotype: &Genotype, config: &NetworkConfig) -> Result<Graph> {
    Ok(Trainable::assemble(genotype, config, false)?.graph)
}

/// A network with what training alone asks of it.
#[derive(Clone, Debug)]
pub struct Trainable {
    /// With a second output `auxiliary` `[N, classes]` where there is an auxiliary head.
    pub graph: Graph,
    /// The wires that drop path may drop, in network order: results of a cell's operations that are more than an identity.
    pub paths: Vec<Value>,
}

impl Trainable {
    /// [`assemble`]'s network, with an auxiliary head on the cell at two thirds if asked for.
    ///
    /// # Errors
    /// Those of [`assemble`]; images too small for the head.
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
    let mut channels = config.channels;
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
    Ok(Trainable { graph: b.finish()?, paths })
}

/// Brings a cell's two inputs to its channels and size. `reduced`: the cell before was a reduction, so the
/// older input has twice the size.
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
            // Only the cell's inputs still have the old size.
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
