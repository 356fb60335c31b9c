//! Networks of cells: stem, cells and classifier, in DARTS' variants for CIFAR and ImageNet and that of NAS-Bench-201.

use super::{NetworkConfig, STEM_MULTIPLIER, Skeleton, Trainable, is_reduction};
use crate::blocks;
use crate::genotype::{Cell, Form};
use crate::graph::{Builder, Fact, Value};
use crate::op::{Add, Concat};
use crate::primitive::{Primitive, Style};
use crate::{Error, Genotype, Result};

/// Network around the cells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CellStack {
    /// Number of earlier outputs that a cell reads.
    pub(crate) inputs: usize,
    /// Whether cells halve the image. Else a residual block does.
    reduces: bool,
    /// Whether the stem is wider than a node.
    wide_stem: bool,
}

/// Network of DARTS.
pub(crate) const PAIRS: CellStack = CellStack { inputs: 2, reduces: true, wide_stem: true };
/// Network of NAS-Bench-201.
pub(crate) const CHAIN: CellStack = CellStack { inputs: 1, reduces: false, wide_stem: false };

/// Cell in its network.
pub(crate) struct CellPlace {
    /// Channels of its nodes.
    pub(crate) channels: usize,
    /// Whether it halves the image.
    pub(crate) reduction: bool,
}

/// Emits a cell from its states, and returns its output.
pub(crate) type EmitCell<'a> = dyn FnMut(&mut Builder, &CellPlace, Vec<Value>) -> Result<Value> + 'a;

/// Sizes of a stack.
pub(crate) struct StackSize {
    pub(crate) channels: usize,
    pub(crate) layers: usize,
    pub(crate) style: Style,
    /// Whether the older input of the first cell has twice the size of the newer one.
    pub(crate) shrinks: bool,
}

impl CellStack {
    /// Channels of a stem that keeps the size.
    pub(crate) fn stem_channels(&self, channels: usize, multiplier: usize) -> usize {
        if self.wide_stem { multiplier * channels } else { channels }
    }

    /// Emits all cells. `cell` emits one from its states, and `after` is called with the output of each. Returns what the
    /// classifier reads.
    pub(crate) fn emit(
        &self,
        b: &mut Builder,
        stem: Vec<Value>,
        size: &StackSize,
        cell: &mut EmitCell<'_>,
        after: &mut dyn FnMut(&mut Builder, usize, Value) -> Result<()>,
    ) -> Result<Value> {
        let mut inputs = stem;
        let mut channels = size.channels;
        for layer in 0..size.layers {
            let reduction = is_reduction(layer, size.layers);
            channels *= 1 + usize::from(reduction);
            let reduced = if layer == 0 { size.shrinks } else { is_reduction(layer - 1, size.layers) };
            let out = b.scope(format!("cells.{layer}"), |b| {
                if reduction && !self.reduces {
                    return blocks::residual_reduction(b, inputs[0], channels, size.style);
                }
                let states = match inputs[..] {
                    [before, last] => preprocess(b, [before, last], channels, reduced, size.style)?.to_vec(),
                    _ => inputs.clone(),
                };
                cell(b, &CellPlace { channels, reduction }, states)
            })?;
            inputs.remove(0);
            inputs.push(out);
            after(b, layer, out)?;
        }
        let last = inputs[inputs.len() - 1];
        if self.reduces { Ok(last) } else { blocks::last_activation(b, last) }
    }
}

/// Assembles the network of a genotype of cells.
pub(crate) fn network(
    genotype: &Genotype,
    config: &NetworkConfig,
    with_auxiliary: bool,
) -> Result<Trainable> {
    let (stack, normal, reduce) = match &genotype.form {
        Form::Pair { normal, reduce } => (PAIRS, normal, reduce),
        Form::Single(cell) => (CHAIN, cell, cell),
        Form::Picks(_) => {
            let (found, expected) = (genotype.to_string(), "a genotype of cells".into());
            return Err(Error::Value { what: "genotype".into(), found, expected });
        }
    };
    let (mut auxiliary, mut paths) = (None, Vec::new());
    let mut b = Builder::new();
    let image = b.input("input", Fact::image(config.in_channels, config.height, config.width))?;
    let stem = match config.skeleton {
        Skeleton::Cifar => {
            let channels = stack.stem_channels(config.channels, STEM_MULTIPLIER);
            vec![blocks::stem(&mut b, image, channels)?; stack.inputs]
        }
        Skeleton::ImageNet if stack == PAIRS => {
            blocks::shrinking_stems(&mut b, image, config.channels)?.to_vec()
        }
        Skeleton::ImageNet => {
            let (found, expected) = ("imagenet".into(), "cifar, for cells of NAS-Bench-201".into());
            return Err(Error::Value { what: "skeleton".into(), found, expected });
        }
    };
    let mut cells: Vec<Value> = stem.last().copied().into_iter().collect();
    let size = StackSize {
        channels: config.channels,
        layers: config.layers,
        style: Style::Derived,
        shrinks: config.skeleton == Skeleton::ImageNet,
    };
    let logits = stack.emit(
        &mut b,
        stem,
        &size,
        &mut |b, place, states| {
            let cell = if place.reduction { reduce } else { normal };
            emit_cell(b, cell, states, place, &mut paths)
        },
        &mut |b, layer, out| {
            cells.push(out);
            if with_auxiliary && layer == 2 * config.layers / 3 {
                auxiliary = Some(blocks::auxiliary_head(b, out, config.classes, config.skeleton)?);
            }
            Ok(())
        },
    )?;
    let logits = blocks::head(&mut b, logits, config.classes)?;
    b.output("logits", logits);
    if let Some(auxiliary) = auxiliary {
        b.output("auxiliary", auxiliary);
    }
    Ok(Trainable { graph: b.finish()?, paths, cells })
}

/// Converts a cell's two inputs to its channels and size. `reduced` is true if the cell before was a reduction cell,
/// so that the older input has twice the size.
fn preprocess(
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
    place: &CellPlace,
    paths: &mut Vec<Value>,
) -> Result<Value> {
    let inputs = states.len();
    let mut index = 0;
    for (node, edges) in cell.nodes().enumerate() {
        let mut sum = None;
        for (at, edge) in edges.iter().enumerate() {
            // Only the cell's inputs still have the full size.
            let stride = if place.reduction && edge.from < inputs { 2 } else { 1 };
            let from = states[edge.from];
            let y = b.scope(format!("ops.{index}"), |b| {
                edge.primitive.emit(b, from, place.channels, stride, Style::Derived)
            })?;
            index += 1;
            let identity = match edge.primitive {
                Primitive::None => true,
                primitive => primitive == Primitive::SkipConnect && stride == 1,
            };
            paths.extend((!identity).then_some(y));
            sum = Some(match sum {
                None => y,
                Some(x) if at == 1 => b.wire(&format!("nodes.{node}"), Add, &[x, y])?,
                Some(x) => b.wire(&format!("nodes.{node}.{at}"), Add, &[x, y])?,
            });
        }
        states.extend(sum);
    }
    match cell.concat() {
        [only] if cell.inputs() == 1 => Ok(states[*only]),
        concat => {
            let parts: Vec<Value> = concat.iter().map(|&state| states[state]).collect();
            b.wire("concat", Concat { axis: 1 }, &parts)
        }
    }
}
