//! From a genotype to a network: stem, cells, classifier (the CIFAR form of DARTS, and that of NAS-Bench-201).

use serde::{Deserialize, Serialize};

use crate::blocks;
pub use crate::blocks::{head, last_activation, residual_reduction, stem};
use crate::genotype::{Cell, Wiring};
use crate::graph::{Builder, Fact, Graph, Value};
use crate::op::{Add, Concat};
use crate::primitive::Style;
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
    config.check()?;
    let mut b = Builder::new();
    let image = b.input("input", Fact::image(config.in_channels, config.height, config.width))?;
    let last = match &genotype.reduce {
        Some(reduce) => stack_pair(&mut b, image, &genotype.normal, reduce, config)?,
        None => stack(&mut b, image, config, Style::Derived, |b, _, x, channels| {
            emit_cell(b, &genotype.normal, vec![x], channels, false)
        })?,
    };
    let logits = blocks::head(&mut b, last, config.classes)?;
    b.output("logits", logits);
    b.finish()
}

/// Cells that read the two before them (DARTS).
fn stack_pair(
    b: &mut Builder,
    image: Value,
    normal: &Cell,
    reduce: &Cell,
    config: &NetworkConfig,
) -> Result<Value> {
    let stem = blocks::stem(b, image, STEM_MULTIPLIER * config.channels)?;
    let (mut before, mut last) = (stem, stem);
    let mut channels = config.channels;
    for layer in 0..config.layers {
        let reduction = config.is_reduction(layer);
        let cell = if reduction { reduce } else { normal };
        channels *= 1 + usize::from(reduction);
        let reduced = layer > 0 && config.is_reduction(layer - 1);
        let out = b.scope(format!("cells.{layer}"), |b| {
            let states = preprocess(b, [before, last], channels, reduced, Style::Derived)?;
            emit_cell(b, cell, states.to_vec(), channels, reduction)
        })?;
        (before, last) = (last, out);
    }
    Ok(last)
}

/// Cells in a row with residual blocks where the image is halved, up to the last activation (NAS-Bench-201, section 2.1: 16
/// channels and 17 layers, three times five cells). `cell` wires the one of a layer, from its input and its channels.
pub fn stack(
    b: &mut Builder,
    image: Value,
    config: &NetworkConfig,
    style: Style,
    mut cell: impl FnMut(&mut Builder, usize, Value, usize) -> Result<Value>,
) -> Result<Value> {
    let mut channels = config.channels;
    let mut last = blocks::stem(b, image, channels)?;
    for layer in 0..config.layers {
        last = b.scope(format!("cells.{layer}"), |b| match config.is_reduction(layer) {
            true => {
                channels *= 2;
                blocks::residual_reduction(b, last, channels, style)
            }
            false => cell(b, layer, last, channels),
        })?;
    }
    blocks::last_activation(b, last)
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
