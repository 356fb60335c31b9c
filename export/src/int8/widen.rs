//! Widens channels to multiples of 8 for ONNX Runtime. Its integer depthwise kernels process 8 channels at
//! once and the remainder one by one, so 36 channels cost more than 40.
//!
//! The added channels are zeros: zero weights write them and zero weights read them. No result changes.

use candle_core::{Device, Tensor};
use milenas_models::graph::{Builder, Graph, Node, Value};
use milenas_models::op::{Conv2d, Linear, Op, ParamRole};
use milenas_models::{Result, Weights};

use crate::passes::numbers;
use crate::verify::NetworkRef;

/// Multiple to which widths are rounded up. A width stays if more than a quarter of it would be added,
/// because dense convolutions must compute the added channels too.
const EIGHT: usize = 8;

/// Index of the source channel for each channel of the wider activation; `None` for added zeros.
type Layout = Vec<Option<usize>>;

/// Returns the wider network; `None` if no depthwise convolution gets wider, or if channels are used in a way
/// that this function does not follow.
///
/// # Errors
/// Returns an error if the weights belong to another network.
pub(super) fn widen(network: NetworkRef) -> Result<Option<(Graph, Weights)>> {
    let graph = network.graph;
    let mut b = Builder::new();
    let mut weights = network.weights.clone();
    let mut wires: Vec<Value> = Vec::new();
    let mut layouts: Vec<Layout> = Vec::new();
    let mut gained = false;
    for (value, node) in graph.values() {
        let read: Vec<&Layout> = node.inputs.iter().map(|v| &layouts[v.index()]).collect();
        let Some(layout) = written(graph, value, node, &read) else { return Ok(None) };
        let op = match &node.op {
            Op::Conv2d(conv) if conv.groups == 1 => {
                let shape = [layout.len(), read[0].len(), conv.kernel[0], conv.kernel[1]];
                scatter(&mut weights, node, &layout, read[0], &shape)?;
                Conv2d { in_channels: shape[1], out_channels: shape[0], ..conv.clone() }.into()
            }
            Op::Conv2d(conv) if conv.is_depthwise() => {
                gained |= layout.len() > conv.groups;
                let n = layout.len();
                scatter(&mut weights, node, &layout, &plain(1), &[n, 1, conv.kernel[0], conv.kernel[1]])?;
                Conv2d { in_channels: n, out_channels: n, groups: n, ..conv.clone() }.into()
            }
            Op::Linear(linear) => {
                scatter(&mut weights, node, &layout, read[0], &[layout.len(), read[0].len()])?;
                Linear { in_features: read[0].len(), ..linear.clone() }.into()
            }
            op => op.clone(),
        };
        let inputs: Vec<Value> = node.inputs.iter().map(|v| wires[v.index()]).collect();
        let params = node.params.iter().map(|p| p.name.clone()).collect();
        wires.push(match op {
            Op::Input(input) => b.input(&node.name, input.fact)?,
            op => b.wire_with(&node.name, op, &inputs, Some(params))?,
        });
        layouts.push(layout);
    }
    for (name, value) in graph.outputs() {
        if layouts[value.index()].contains(&None) {
            return Ok(None);
        }
        b.output(name, wires[value.index()]);
    }
    Ok(if gained { Some((b.finish()?, weights)) } else { None })
}

fn plain(channels: usize) -> Layout {
    (0..channels).map(Some).collect()
}

/// Layout of a node's output; `None` if unknown.
fn written(graph: &Graph, value: Value, node: &Node, read: &[&Layout]) -> Option<Layout> {
    let whole = |layout: &Layout| !layout.contains(&None);
    match &node.op {
        Op::Input(_) => Some(plain(node.fact.dims().get(1)?.fixed()?)),
        Op::Conv2d(conv) if conv.groups == 1 => {
            let mut layout = plain(conv.out_channels);
            layout.resize(layout.len() + further(graph, value)?, None);
            Some(layout)
        }
        Op::Conv2d(conv) if conv.is_depthwise() => Some(read[0].clone()),
        Op::Conv2d(conv) => whole(read[0]).then(|| plain(conv.out_channels)),
        Op::Linear(linear) => Some(plain(linear.out_features)),
        Op::Add(_) => (read[0] == read[1]).then(|| read[0].clone()),
        Op::Concat(concat) if concat.axis == 1 => {
            let mut start = 0;
            let mut row = Layout::new();
            for (layout, part) in read.iter().zip(&node.inputs) {
                row.extend(layout.iter().map(|c| c.map(|c| start + c)));
                start += graph.fact(*part).dims().get(1)?.fixed()?;
            }
            Some(row)
        }
        Op::Slice(slice) if slice.ranges.iter().all(|r| r.axis > 1) => Some(read[0].clone()),
        Op::Pool2d(_) | Op::GlobalAvgPool(_) | Op::Relu(_) | Op::Identity(_) | Op::Zero(_) => {
            Some(read[0].clone())
        }
        Op::Flatten(_) if graph.fact(node.inputs[0]).chw().is_some_and(|(_, h, w)| h * w == 1) => {
            Some(read[0].clone())
        }
        Op::BatchNorm(_)
        | Op::Concat(_)
        | Op::Slice(_)
        | Op::Flatten(_)
        | Op::Softmax(_)
        | Op::Activation(_)
        | Op::Mul(_)
        | Op::ChannelShuffle(_)
        | Op::FakeQuantize(_) => read
            .iter()
            .all(|layout| whole(layout))
            .then(|| plain(node.fact.dims().get(1).and_then(|d| d.fixed()).unwrap_or(0))),
    }
}

/// Returns the number of channels to add to the output of a dense convolution. In a concatenation of
/// convolutions (factorised reduction) only the last one is widened, for the total of all; `None` if a shape
/// is unknown.
fn further(graph: &Graph, value: Value) -> Option<usize> {
    let width = |v: &Value| graph.fact(*v).chw().map(|(c, ..)| c);
    let up = |n: usize| Some(n.next_multiple_of(EIGHT) - n).filter(|more| 4 * more <= n).unwrap_or(0);
    let convs = |row: &Node| row.inputs.iter().all(|v| matches!(graph.node(*v).op, Op::Conv2d(_)));
    match graph.consumers(value)[..] {
        [reader] if matches!(graph.node(reader).op, Op::Concat(_)) && convs(graph.node(reader)) => {
            let row = &graph.node(reader).inputs;
            let total = row.iter().map(width).sum::<Option<usize>>()?;
            Some(if row.last() == Some(&value) { up(total) } else { 0 })
        }
        _ => Some(up(width(&value)?)),
    }
}

/// Rearranges weight and bias of a node for the layouts of its output and input. Added elements are zero.
fn scatter(
    weights: &mut Weights,
    node: &Node,
    rows: &Layout,
    columns: &Layout,
    shape: &[usize],
) -> Result<()> {
    let old = numbers(weights, node, ParamRole::Weight)?;
    let own = node.params.iter().find(|p| p.role == ParamRole::Weight).map_or(1, |p| p.shape[1]);
    let inner: usize = shape[2..].iter().product();
    let mut new = Vec::with_capacity(shape.iter().product());
    for row in rows {
        for column in columns {
            match (row, column) {
                (Some(r), Some(c)) => new.extend_from_slice(&old[(r * own + c) * inner..][..inner]),
                _ => new.resize(new.len() + inner, 0.0),
            }
        }
    }
    let bias = match node.param(ParamRole::Bias) {
        Some(_) => Some(numbers(weights, node, ParamRole::Bias)?),
        None => None,
    };
    let mut set = |role, numbers: Vec<f32>, shape: &[usize]| match node.param(role) {
        Some(name) => weights.insert(name, Tensor::from_vec(numbers, shape, &Device::Cpu)?),
        None => Ok(()),
    };
    set(ParamRole::Weight, new, shape)?;
    match bias {
        Some(bias) => {
            set(ParamRole::Bias, rows.iter().map(|r| r.map_or(0.0, |r| bias[r])).collect(), &[rows.len()])
        }
        None => Ok(()),
    }
}
