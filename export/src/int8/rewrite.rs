//! Rewrites a network for integers: inserts `FakeQuantize` nodes behind activations and rounds weights.
//!
//! Operations that only move or compare values share one grid with their inputs: concatenation, pooling and
//! slicing. A ReLU whose grid starts at 0 equals the saturation of that grid and is removed.

use std::collections::{BTreeMap, HashMap, HashSet};

use candle_core::{Device, Tensor};
use milenas_models::graph::{Builder, Graph, Node, Value};
use milenas_models::op::{Conv2d, FakeQuantize, Op, ParamRole};
use milenas_models::{Result, Weights};

use crate::onnx::Integers;
use crate::passes::numbers;

/// Largest integer of a weight: half of the int8 range. Processors without a dot-product instruction add
/// pairs of uint8 * int8 products in 16 bits. The largest sum, 2 * 255 * 64, fits.
const DENSE: f32 = 64.0;
/// Largest integer of a weight in convolutions with one input channel per group. Their kernels widen to 32
/// bits first.
const DEPTHWISE: f32 = 127.0;
/// Largest integer of a bias. float32 represents every integer up to it exactly.
const BIAS: f32 = (1 << 22) as f32;

/// Network whose quantised convolutions read rounded activations and weights.
pub(super) struct Rewritten {
    pub(super) graph: Graph,
    pub(super) weights: Weights,
    /// Parameters stored as integers times a scale.
    pub(super) integers: BTreeMap<String, Integers>,
}

/// Returns the names of the convolutions that can be quantised: those that share no parameter.
pub(super) fn layers(graph: &Graph) -> Vec<String> {
    let mut users: HashMap<&str, usize> = HashMap::new();
    graph.nodes().iter().flat_map(|n| &n.params).for_each(|p| *users.entry(&p.name).or_default() += 1);
    let alone = |node: &&Node| node.params.iter().all(|p| users[p.name.as_str()] == 1);
    let layers = graph.nodes().iter().filter(|n| matches!(n.op, Op::Conv2d(_))).filter(alone);
    layers.map(|n| n.name.clone()).collect()
}

/// Quantises the convolutions in `rounded`, and the activations between operations that can work on integers.
/// `ranges` is the output of [`observe`](super::ranges::observe).
///
/// # Errors
/// Returns an error if the weights belong to another network.
pub(super) fn rewrite(
    graph: &Graph,
    weights: &Weights,
    ranges: &[(f32, f32)],
    rounded: &HashSet<&str>,
) -> Result<Rewritten> {
    let plan = QuantizationPlan::of(graph, ranges, rounded);
    let mut b = Builder::new();
    let mut numbers = Numbers { weights: weights.clone(), integers: BTreeMap::new() };
    // For each value of the source: the value its node now writes, and the rounded value its readers now
    // read.
    let mut raw: Vec<Value> = Vec::new();
    let mut read: Vec<Value> = Vec::new();
    let mut taken: HashSet<String> = graph.nodes().iter().map(|n| n.name.clone()).collect();
    for (value, node) in graph.values() {
        let inputs: Vec<Value> = node.inputs.iter().map(|v| read[v.index()]).collect();
        let grid = plan.grid(value);
        let swallowed = matches!(node.op, Op::Relu(_))
            && !graph.is_output(value)
            && grid.as_ref().is_some_and(|g| g.zero == 0);
        let wire = match &node.op {
            _ if swallowed => inputs[0],
            Op::Input(input) => b.input(&node.name, input.fact.clone())?,
            op => {
                if let (Op::Conv2d(conv), true) = (op, rounded.contains(node.name.as_str()))
                    && let Some(grid) = plan.grid(node.inputs[0])
                {
                    numbers.round(node, conv, grid.scale)?;
                }
                let params = node.params.iter().map(|p| p.name.clone()).collect();
                b.wire_with(&node.name, op.clone(), &inputs, Some(params))?
            }
        };
        raw.push(wire);
        read.push(match grid {
            None => wire,
            Some(grid) => {
                let mut name = if swallowed { node.name.clone() } else { format!("{}.int8", node.name) };
                while !swallowed && !taken.insert(name.clone()) {
                    name.push('_');
                }
                b.wire(&name, grid, &[wire])?
            }
        });
    }
    for (name, value) in graph.outputs() {
        b.output(name, raw[value.index()]);
    }
    let Numbers { weights, integers } = numbers;
    Ok(Rewritten { graph: b.finish()?, weights, integers })
}

/// Grid of every activation; `None` if it stays float32.
struct QuantizationPlan {
    grids: Vec<Option<FakeQuantize>>,
}

impl QuantizationPlan {
    fn of(graph: &Graph, ranges: &[(f32, f32)], rounded: &HashSet<&str>) -> Self {
        let suits = on_integers(graph, rounded);
        let groups = groups(graph);
        let mut of_group: HashMap<usize, (f32, f32)> = HashMap::new();
        for (place, (low, high)) in ranges.iter().enumerate() {
            let range = of_group.entry(groups[place]).or_insert((0.0, 0.0));
            *range = (range.0.min(*low), range.1.max(*high));
        }
        let from_zero = |v: &Value| of_group[&groups[v.index()]].0 == 0.0;
        let grid = |(value, _): (Value, &Node)| {
            let readers = graph.consumers(value);
            let is_relu = |v: &Value| matches!(graph.node(*v).op, Op::Relu(_));
            // Such a value is rounded only behind its ReLU.
            let only_relu = !readers.is_empty()
                && !graph.is_output(value)
                && readers.iter().all(|v| is_relu(v) && from_zero(v));
            let needed = suits[value.index()] || readers.iter().any(|v| suits[v.index()]);
            let (low, high) = of_group[&groups[value.index()]];
            (needed && !only_relu && !readers.is_empty()).then(|| FakeQuantize::over(low, high))
        };
        QuantizationPlan { grids: graph.values().map(grid).collect() }
    }

    fn grid(&self, value: Value) -> Option<FakeQuantize> {
        self.grids[value.index()].clone()
    }
}

/// Returns, by node index, whether the node works on integers. Rounded convolutions do, and so do operations
/// that are connected to one through operations that need no floats.
fn on_integers(graph: &Graph, rounded: &HashSet<&str>) -> Vec<bool> {
    let follows = |node: &Node| match &node.op {
        Op::Add(_) | Op::Concat(_) | Op::Pool2d(_) | Op::Slice(_) | Op::GlobalAvgPool(_) | Op::Relu(_) => {
            true
        }
        Op::Input(_) | Op::Conv2d(_) | Op::BatchNorm(_) | Op::Linear(_) | Op::Flatten(_) => false,
        Op::Softmax(_) | Op::Identity(_) | Op::Zero(_) | Op::FakeQuantize(_) => false,
        Op::Activation(_) | Op::Mul(_) | Op::ChannelShuffle(_) => false,
    };
    let is_rounded = |n: &Node| matches!(n.op, Op::Conv2d(_)) && rounded.contains(n.name.as_str());
    let mut suits: Vec<bool> = graph.nodes().iter().map(is_rounded).collect();
    loop {
        let before = suits.clone();
        for (value, node) in graph.values() {
            for input in &node.inputs {
                let either = suits[value.index()] || suits[input.index()];
                suits[value.index()] |= either && follows(node);
                suits[input.index()] |= either && follows(graph.node(*input));
            }
        }
        if suits == before {
            return suits;
        }
    }
}

/// Returns, by node index, the first node that shares the grid of this node's output.
fn groups(graph: &Graph) -> Vec<usize> {
    fn root(parent: &[usize], mut at: usize) -> usize {
        while parent[at] != at {
            at = parent[at];
        }
        at
    }
    let mut parent: Vec<usize> = (0..graph.nodes().len()).collect();
    for (value, node) in graph.values() {
        if matches!(node.op, Op::Concat(_) | Op::Pool2d(_) | Op::Slice(_) | Op::Identity(_)) {
            for input in &node.inputs {
                let (a, b) = (root(&parent, value.index()), root(&parent, input.index()));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    (0..parent.len()).map(|at| root(&parent, at)).collect()
}

struct Numbers {
    weights: Weights,
    integers: BTreeMap<String, Integers>,
}

impl Numbers {
    /// Rounds weight and bias of a convolution whose input is integers times `scale`.
    fn round(&mut self, node: &Node, conv: &Conv2d, scale: f32) -> Result<()> {
        let weight = numbers(&self.weights, node, ParamRole::Weight)?;
        let bias = conv.bias.then(|| numbers(&self.weights, node, ParamRole::Bias)).transpose()?;
        let most = if conv.groups == 1 { DENSE } else { DEPTHWISE };
        let channels = weight.chunks_exact(weight.len() / conv.out_channels);
        let scales = channels.enumerate().map(|(c, weight)| {
            let largest = weight.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            let shift = bias.as_ref().map_or(0.0, |b| b[c].abs());
            (largest / most).max(shift / (scale * BIAS)).max(1e-12)
        });
        let scales: Vec<f32> = scales.collect();
        self.set(node, ParamRole::Weight, &weight, Integers::Int8(scales.clone()))?;
        if let Some(bias) = bias {
            self.set(
                node,
                ParamRole::Bias,
                &bias,
                Integers::Int32(scales.iter().map(|s| s * scale).collect()),
            )?;
        }
        Ok(())
    }

    fn set(&mut self, node: &Node, role: ParamRole, numbers: &[f32], integers: Integers) -> Result<()> {
        let Some(param) = node.params.iter().find(|p| p.role == role) else { return Ok(()) };
        let (Integers::Int8(scales) | Integers::Int32(scales)) = &integers;
        let inner = numbers.len() / scales.len();
        let round = |(i, x): (usize, &f32)| (x / scales[i / inner]).round_ties_even() * scales[i / inner];
        let rounded: Vec<f32> = numbers.iter().enumerate().map(round).collect();
        self.weights.insert(&param.name, Tensor::from_vec(rounded, param.shape.as_slice(), &Device::Cpu)?)?;
        self.integers.insert(param.name.clone(), integers);
        Ok(())
    }
}
