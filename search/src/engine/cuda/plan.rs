//! Translation of a graph into the steps of a pass, in the order of its nodes.

use milenas_models::graph::{Node, Value};
use milenas_models::op::{BatchNorm, Conv2d, Op, ParamRole, Pool2d, PoolKind, Slice};
use milenas_models::{Error, Graph, Result, Trainable};

use super::convolution::{ConvKernel, CudaConv};
use super::maps::{ChannelMap, depthwise_kind, place};
use super::step::{CudaStep, NormStep};
use crate::resident::{DeviceTensors, Packing};

/// Classifier at the end of a branch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BranchHead {
    /// Index among the graph's outputs.
    output: Option<usize>,
    /// Input with one pixel per channel.
    pub(super) x: ChannelMap,
    pub(super) classes: usize,
    /// Indices of the parameters.
    pub(super) weight: usize,
    pub(super) bias: usize,
}

/// Network as a sequence of steps on a device.
pub(super) struct NetworkPlan {
    /// Shape `[channels, rows, columns]` of an image.
    pub(super) image: [usize; 3],
    pub(super) steps: Vec<CudaStep>,
    /// Heads: the classifier, then an auxiliary head.
    pub(super) heads: Vec<BranchHead>,
    /// Feature map of each node that owns a buffer, with the node's index as home.
    pub(super) homes: Vec<ChannelMap>,
    /// Offset of each parameter in a pass, by index.
    pub(super) parameters: Vec<usize>,
    /// Index, offset of the statistics, and input of each BatchNorm.
    norms: Vec<(usize, usize, ChannelMap)>,
    /// Number of droppable paths.
    pub(super) paths: usize,
}

/// State of the translation.
struct Planner<'a> {
    graph: &'a Graph,
    maps: Vec<Option<ChannelMap>>,
    tensors: &'a mut DeviceTensors,
    plan: NetworkPlan,
    moments: usize,
}

impl NetworkPlan {
    /// Translates a network, and adds its parameters and BatchNorms to `tensors`, in the order of its nodes.
    ///
    /// # Errors
    /// Fails for a node without a kernel.
    pub(super) fn new(network: &Trainable, tensors: &mut DeviceTensors) -> Result<NetworkPlan> {
        let graph = &network.graph;
        let image = graph.inputs().next().and_then(|input| graph.fact(input).chw());
        let (channels, rows, columns) = image.unwrap_or_default();
        let plan = NetworkPlan {
            image: [channels, rows, columns],
            steps: Vec::new(),
            heads: Vec::new(),
            homes: Vec::new(),
            parameters: Vec::new(),
            norms: Vec::new(),
            paths: network.paths.len(),
        };
        let mut planner = Planner { graph, maps: place(graph), tensors, plan, moments: 0 };
        for (value, node) in graph.values() {
            planner.node(value, node)?;
            if let Some(path) = network.paths.iter().position(|path| *path == value) {
                let map = planner.map(value)?;
                planner.plan.steps.push(CudaStep::Weigh { path, map });
            }
        }
        let mut plan = planner.plan;
        plan.heads.sort_by_key(|head| head.output);
        let mut packing = Packing::default();
        plan.parameters = (0..tensors.places().count()).map(|id| packing.put(tensors, [id])).collect();
        Ok(plan)
    }

    /// Returns the layout of a pass's parameters and statistics.
    pub(super) fn packing(&self, tensors: &DeviceTensors) -> Packing {
        let mut packing = Packing::default();
        for id in 0..self.parameters.len() {
            packing.put(tensors, [id]);
        }
        for &(id, first, map) in &self.norms {
            packing.room(map.channels);
            packing.norm(id, first, map.length(1));
        }
        packing
    }
}

impl Planner<'_> {
    fn map(&self, value: Value) -> Result<ChannelMap> {
        self.maps[value.index()]
            .ok_or_else(|| no_kernel(self.graph.node(value), "its result is not a feature map"))
    }

    fn parameter(&mut self, node: &Node, role: ParamRole) -> usize {
        let found = node.params.iter().find(|param| param.role == role);
        let (name, shape) = found.map_or((String::new(), &[][..]), |p| (p.name.clone(), &p.shape[..]));
        self.tensors.parameter(name, shape)
    }

    fn node(&mut self, value: Value, node: &Node) -> Result<()> {
        if let Op::Input(_) = node.op {
            return Ok(());
        }
        let y = self.map(value)?;
        if y.home == value.index() && !matches!(node.op, Op::Linear(_)) {
            self.plan.homes.push(y);
        }
        let inputs = node.inputs.iter().map(|input| self.map(*input)).collect::<Result<Vec<_>>>()?;
        let x = inputs.first().copied().unwrap_or(y);
        let step = match &node.op {
            Op::Input(_) => return Ok(()),
            Op::Conv2d(conv) => CudaStep::Convolution(self.convolution(node, conv, x, y)?),
            Op::BatchNorm(norm) => CudaStep::Norm(self.norm(node, norm, x, y)?),
            Op::Pool2d(pool) => pooling(node, pool, x, y)?,
            Op::GlobalAvgPool(_) => CudaStep::Mean { x, y },
            Op::Linear(linear) if linear.bias && self.graph.is_output(value) => {
                let output = self.graph.outputs().iter().position(|(_, wire)| *wire == value);
                let (weight, bias) =
                    (self.parameter(node, ParamRole::Weight), self.parameter(node, ParamRole::Bias));
                self.plan.heads.push(BranchHead { output, x, classes: y.channels, weight, bias });
                return Ok(());
            }
            Op::Relu(_) | Op::Identity(_) | Op::Flatten(_) if x == y => return Ok(()),
            Op::Relu(_) => CudaStep::Relu { x, y },
            Op::Add(_) => CudaStep::Sum { parts: inputs, y },
            Op::Concat(_) => {
                self.concat(inputs, y);
                return Ok(());
            }
            Op::Slice(slice) => crop(node, slice, x, y)?,
            Op::Zero(_) => CudaStep::Zeros { y },
            Op::Identity(_) | Op::Linear(_) | Op::Flatten(_) | Op::Softmax(_) | Op::FakeQuantize(_) => {
                return Err(no_kernel(node, "a classifier reads one pixel, has a bias, and is the end"));
            }
            Op::Activation(_) | Op::Mul(_) | Op::ChannelShuffle(_) => {
                return Err(no_kernel(node, "the device has ReLU, sums and concatenations"));
            }
        };
        self.plan.steps.push(step);
        Ok(())
    }

    /// Adds copies of the parts that are not yet in the buffer of the concatenation.
    fn concat(&mut self, parts: Vec<ChannelMap>, y: ChannelMap) {
        let mut first = y.first;
        for x in parts {
            let own = ChannelMap { first, channels: x.channels, ..y };
            first += x.channels;
            if x != own {
                self.plan.steps.push(CudaStep::Sum { parts: vec![x], y: own });
            }
        }
    }

    fn convolution(&mut self, node: &Node, conv: &Conv2d, x: ChannelMap, y: ChannelMap) -> Result<CudaConv> {
        if conv.bias {
            return Err(no_kernel(node, "convolutions have no bias"));
        }
        let weight = self.parameter(node, ParamRole::Weight);
        let from = node.inputs[0];
        let fed = matches!(self.graph.node(from).op, Op::Input(_));
        let after_relu = matches!(self.graph.node(from).op, Op::Relu(_));
        let plain = *conv == Conv2d::pointwise(conv.in_channels, conv.out_channels);
        let form = match depthwise_kind(conv) {
            Some(kind) if after_relu => ConvKernel::Depthwise { kind, stride: conv.stride[0] },
            _ if plain && !fed => {
                // The gradient of a concatenation contains those of its parts.
                let joined = matches!(self.graph.node(from).op, Op::Concat(_));
                let alone = !joined && self.graph.consumers(from).len() == 1 && x.home == from.index();
                ConvKernel::Pointwise { alone, moments: None }
            }
            _ => ConvKernel::Windows { conv: conv.clone(), fed },
        };
        Ok(CudaConv { x, y, weight, form })
    }

    fn norm(&mut self, node: &Node, norm: &BatchNorm, x: ChannelMap, y: ChannelMap) -> Result<NormStep> {
        if *norm != BatchNorm::new(norm.channels, true) {
            return Err(no_kernel(node, "BatchNorms have a weight, a bias and PyTorch's defaults"));
        }
        let (weight, bias) = (self.parameter(node, ParamRole::Weight), self.parameter(node, ParamRole::Bias));
        let mean = node.param(ParamRole::RunningMean).unwrap_or_default();
        let name = mean.strip_suffix(".running_mean").unwrap_or(mean);
        let moments = self.moments;
        self.moments += norm.channels;
        self.plan.norms.push((self.tensors.norm(name.into(), norm.channels), moments, x));
        // A pointwise convolution directly before it computes the statistics of its output.
        let mut counted = false;
        if let Some(CudaStep::Convolution(before)) = self.plan.steps.last_mut()
            && before.y == x
            && before.is_square()
            && let ConvKernel::Pointwise { moments: wanted, .. } = &mut before.form
        {
            (*wanted, counted) = (Some(moments), true);
        }
        Ok(NormStep { x, y, weight, bias, moments, counted })
    }
}

fn pooling(node: &Node, pool: &Pool2d, x: ChannelMap, y: ChannelMap) -> Result<CudaStep> {
    let stride = pool.stride[0];
    match pool.kind {
        kind @ (PoolKind::Max | PoolKind::Average { count_padding: false })
            if *pool == Pool2d::new(kind, 3, stride) && stride <= 2 =>
        {
            Ok(CudaStep::Pool { most: kind == PoolKind::Max, stride, x, y })
        }
        PoolKind::Average { count_padding: false } => Ok(CudaStep::Means { pool: pool.clone(), x, y }),
        _ => {
            Err(no_kernel(node, "max pooling needs windows of 3x3, and average pooling must exclude padding"))
        }
    }
}

fn crop(node: &Node, slice: &Slice, x: ChannelMap, y: ChannelMap) -> Result<CudaStep> {
    let mut from = [0; 2];
    for range in &slice.ranges {
        match range.axis {
            2 | 3 => from[range.axis - 2] = range.start,
            _ => return Err(no_kernel(node, "only rows and columns can be cropped")),
        }
    }
    Ok(CudaStep::Crop { from, x, y })
}

fn no_kernel(node: &Node, rule: &str) -> Error {
    let problem = format!("{} has no kernel on a GPU: {rule}. help: set `device` to cpu", node.op);
    Error::Graph { node: node.name.clone(), problem }
}
