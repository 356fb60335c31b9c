//! Recognition of the auxiliary head by its structure.

use crate::graph::{Graph, Node, Value};
use crate::kernels::cpu::Channels;
use crate::op::{Op, Padding, ParamRole, PoolKind};

use super::super::super::auxiliary::{Auxiliary, AuxiliaryClassifier, AuxiliaryLayer, SIDE};
use super::super::super::norm::{AffineNorm, Norm};
use super::super::MapSlot;
use super::{Compiled, Compiler};

/// Returns the nodes of the head, from its first ReLU to the linear layer.
pub(super) fn nodes(graph: &Graph, output: Value) -> Vec<Value> {
    // Nodes with the same first part of the name belong to the head; each of them reads one wire.
    let scope = |value: Value| graph.node(value).name.split('.').next().unwrap_or_default();
    let mut found = vec![output];
    while let Some(&before) = found.last().and_then(|&v| graph.node(v).inputs.first())
        && scope(before) == scope(output)
    {
        found.push(before);
    }
    found.reverse();
    found
}

fn named(node: &Node, role: ParamRole) -> Compiled<String> {
    node.param(role).map(String::from).ok_or_else(|| "lacks a parameter".into())
}

impl Compiler<'_> {
    /// Compiles the head with the given [`nodes`](nodes()), and returns it with the location of its input.
    pub(super) fn auxiliary(&mut self, nodes: &[Value]) -> Compiled<(Auxiliary, MapSlot)> {
        let graph = self.graph;
        let all: Vec<&Node> = nodes.iter().map(|v| graph.node(*v)).collect();
        let ops: Vec<&Op> = all.iter().map(|n| &n.op).collect();
        let (pool, first, second, linear) = match ops[..] {
            [
                Op::Relu(_),
                Op::Pool2d(pool),
                Op::Conv2d(first),
                Op::BatchNorm(_),
                Op::Relu(_),
                Op::Conv2d(second),
                ..,
                Op::Relu(_),
                Op::GlobalAvgPool(_),
                Op::Flatten(_),
                Op::Linear(linear),
            ] if ops.len() <= 11 => (pool, first, second, linear),
            _ => return Err("it has another form".into()),
        };
        let plain = |c: &crate::op::Conv2d, side: usize| {
            c.groups == 1
                && !c.bias
                && c.dilation == [1; 2]
                && c.stride == [1; 2]
                && c.padding == Padding::default()
                && c.kernel == [side; 2]
        };
        let [window, stride] = [pool.kernel[0], pool.stride[0]];
        let square = pool.kernel == [window; 2] && pool.stride == [stride; 2] && pool.dilation == [1; 2];
        let average = matches!(pool.kind, PoolKind::Average { .. }) && pool.padding == Padding::default();
        if !(plain(first, 1) && plain(second, SIDE) && square && average && linear.bias) {
            return Err("it has another form".into());
        }
        let (_, height, width) = all[1].fact.chw().ok_or("it pools no image")?;
        let source = self.state(self.input(all[0]))?;
        let inputs = second.in_channels * SIDE * SIDE;
        let layers = [
            self.layer(all[2], first.in_channels, first.out_channels, Some(all[3]))?,
            self.layer(all[5], inputs, second.out_channels, (ops.len() == 11).then(|| all[6]))?,
        ];
        let last = all[all.len() - 1];
        let shape = vec![linear.out_features, linear.in_features];
        let weight = self.parameters.plain(named(last, ParamRole::Weight)?, shape);
        let bias = self.parameters.vector(named(last, ParamRole::Bias)?, linear.out_features);
        let classifier = AuxiliaryClassifier { weight, bias, classes: linear.out_features };
        let head = Auxiliary::new(source.channels, window, stride, [height, width], layers, classifier);
        Ok((head, source))
    }

    fn layer(
        &mut self,
        conv: &Node,
        inputs: usize,
        outputs: usize,
        norm: Option<&Node>,
    ) -> Compiled<AuxiliaryLayer> {
        let shape = conv.params.first().map(|p| p.shape.clone()).ok_or("lacks a parameter")?;
        let weight = self.parameters.plain(named(conv, ParamRole::Weight)?, shape);
        let channels = Channels::one(outputs);
        let norm = match norm {
            None => AffineNorm::new(None, None, None, channels),
            Some(node) => {
                let names = [named(node, ParamRole::RunningMean)?, named(node, ParamRole::RunningVar)?];
                let norm = Norm::named(names, outputs, &mut self.statistics);
                let gamma = self.parameters.vector(named(node, ParamRole::Weight)?, outputs);
                let beta = self.parameters.vector(named(node, ParamRole::Bias)?, outputs);
                AffineNorm::new(Some(norm), Some(gamma), Some(beta), channels)
            }
        };
        Ok(AuxiliaryLayer::new(weight, inputs, outputs, norm))
    }
}
