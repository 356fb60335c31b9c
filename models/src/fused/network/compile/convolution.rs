//! Compilation of convolutions, with the ReLU before them, the depthwise convolution that feeds them, and the norm
//! after them.

use crate::graph::{Node, Value};
use crate::kernels::cpu::Channels;
use crate::kernels::cpu::depthwise::DepthwiseShape;
use crate::op::{BatchNorm, Conv2d, Op, Padding, ParamRole, Range, Slice};

use super::super::super::norm::{AffineNorm, Norm};
use super::super::super::stem::Stem;
use super::super::super::unit::{ConvBlock, Im2col};
use super::super::{ConvSource, ConvStep, ConvTarget, MapSlot, TrainStep};
use super::{Compiled, CompiledWire, Compiler};

impl<'a> Compiler<'a> {
    pub(super) fn slice(&self, node: &Node, slice: &Slice) -> Compiled<CompiledWire> {
        let from = self.input(node);
        let CompiledWire::AfterRelu(source) = self.wire(from) else {
            return Err("slices a wire that is not the output of a ReLU".into());
        };
        let (_, height, width) = self.graph.fact(from).chw().ok_or("slices no image")?;
        let shift = |axis, end| Range { axis, start: 1, end };
        match slice.ranges == [shift(2, height), shift(3, width)] {
            true => Ok(CompiledWire::Shifted(*source)),
            false => Err("slices more than the first row and column".into()),
        }
    }

    /// Compiles the norm after a convolution's output `value`, or its bias. Also returns the wire that holds the
    /// result.
    pub(super) fn norm(
        &mut self,
        value: Value,
        biases: &[(&str, usize)],
        channels: Channels,
    ) -> Compiled<(AffineNorm, Value)> {
        let owned = |(name, n): (&str, usize)| (name.to_string(), n);
        if let Some((at, node)) = self.reader(value)
            && let Op::BatchNorm(BatchNorm { .. }) = node.op
        {
            if !biases.is_empty() {
                return Err("a BatchNorm follows a bias".into());
            }
            let param = |role| node.param(role).map(String::from);
            let [Some(mean), Some(variance)] = [ParamRole::RunningMean, ParamRole::RunningVar].map(param)
            else {
                return Err("a BatchNorm lacks its statistics".into());
            };
            if channels.groups > 1 {
                return Err("a BatchNorm reads a concatenation".into());
            }
            let count = channels.count();
            let norm = Norm::named([mean, variance], count, &mut self.statistics);
            let [gamma, beta] = [ParamRole::Weight, ParamRole::Bias]
                .map(|role| param(role).map(|name| self.parameters.vector(name, count)));
            return Ok((AffineNorm::new(Some(norm), gamma, beta, channels), at));
        }
        let beta = match *biases {
            [] => None,
            [bias] => Some(self.parameters.vectors([owned(bias)])),
            [even, odd] => Some(self.parameters.vectors([owned(even), owned(odd)])),
            _ => return Err("more than two biases".into()),
        };
        Ok((AffineNorm::new(None, None, beta, channels), value))
    }

    pub(super) fn convolution(&mut self, value: Value, node: &Node, conv: &Conv2d) -> Compiled<CompiledWire> {
        let weight = node.param(ParamRole::Weight).ok_or("has no weight")?.to_string();
        let from = self.input(node);
        let bias: Vec<_> = node.param(ParamRole::Bias).map(|b| (b, conv.out_channels)).into_iter().collect();
        let plain = conv.groups == 1 && conv.dilation == [1, 1];
        let no_padding = conv.padding == Padding::default();
        match (self.wire(from).clone(), conv.kernel, conv.stride) {
            (CompiledWire::Image, [3, 3], [1, 1]) if plain && conv.padding == Padding::all(1) => {
                if self.stem.is_some() {
                    return Err("has two stems".into());
                }
                let shape = vec![conv.out_channels, conv.in_channels, 3, 3];
                let weight = self.parameters.pointwise(weight, shape, Stem::patch(conv.in_channels));
                let channels = Channels::one(conv.out_channels);
                let (norm, at) = self.norm(value, &bias, channels)?;
                let map = self.map(value).ok_or("writes no image")?;
                let mut stem = Stem::new(conv.in_channels, conv.out_channels, weight, norm);
                stem.resize(map.height, map.width);
                self.stem = Some(stem);
                self.images[0] = map.len();
                self.wires[at.index()] = CompiledWire::State(MapSlot { buffer: 0, offset: 0, map, channels });
                Ok(CompiledWire::Nothing)
            }
            (CompiledWire::AfterRelu(source), [kernel @ (3 | 5), other], [stride @ (1 | 2), across])
                if conv.is_depthwise() && kernel == other && stride == across && !conv.bias =>
            {
                let [dilation, sideways] = conv.dilation;
                let shape = DepthwiseShape { kernel, dilation, stride };
                let padded = conv.padding == Padding::all(dilation * (kernel - 1) / 2);
                match padded && dilation == sideways && (1..=2).contains(&dilation) {
                    true if self.uses[value.index()] == 1 => Ok(CompiledWire::Depthwise(source, shape)),
                    _ => Err(format!("no kernel for {}", node.op)),
                }
            }
            (CompiledWire::AfterRelu(source), [1, 1], [1, 1]) if plain && no_padding => {
                let slot = self.state(source)?;
                let shape = vec![conv.out_channels, conv.in_channels, 1, 1];
                let pointwise = self.parameters.pointwise(weight, shape, slot.channels);
                self.unit(
                    value,
                    Im2col::AfterRelu,
                    pointwise,
                    ConvSource::State(slot),
                    &bias,
                    conv.out_channels,
                )
            }
            (CompiledWire::AfterRelu(source), [3, 3], [stride @ (1 | 2), across])
                if plain && stride == across && conv.padding == Padding::all(1) =>
            {
                let slot = self.state(source)?;
                let dense = self.parameters.dense(weight, slot.channels, conv.out_channels, 3);
                let columns = Im2col::Taps { stride };
                self.unit(value, columns, dense, ConvSource::State(slot), &bias, conv.out_channels)
            }
            (CompiledWire::Halved(source), [1, 1], [1, 1]) if plain && no_padding => {
                let slot = self.state(source)?;
                let shape = vec![conv.out_channels, conv.in_channels, 1, 1];
                let pointwise = self.parameters.pointwise(weight, shape, slot.channels);
                self.unit(value, Im2col::Halves, pointwise, ConvSource::State(slot), &bias, conv.out_channels)
            }
            (CompiledWire::Depthwise(source, depthwise), [1, 1], [1, 1]) if plain && no_padding => {
                let taps = self.graph.node(from).param(ParamRole::Weight).ok_or("has no weight")?.to_string();
                let (activated, channels) = (self.input(self.graph.node(from)), conv.in_channels);
                // The gradient of the earlier convolution must fit into the buffer of this one's output.
                let fits = depthwise.stride == 1 && conv.out_channels == channels;
                let alone = self.uses[source.index()] == 1 && self.uses[activated.index()] == 1 && fits;
                let source = match *self.wire(source) {
                    CompiledWire::Made(step)
                        if alone && matches!(self.steps[step], TrainStep::Convolution(_)) =>
                    {
                        ConvSource::Normed(step)
                    }
                    _ => ConvSource::State(self.state(source)?),
                };
                if matches!(source, ConvSource::State(slot) if slot.channels.groups > 1) {
                    return Err("a depthwise convolution reads a concatenation".into());
                }
                let columns = self.parameters.depthwise(taps, channels, depthwise.kernel);
                let shape = vec![conv.out_channels, channels, 1, 1];
                let pointwise = self.parameters.pointwise(weight, shape, Channels::one(channels));
                let columns = Im2col::Depthwise(depthwise, columns);
                self.unit(value, columns, pointwise, source, &bias, conv.out_channels)
            }
            (CompiledWire::AfterRelu(source), [1, 1], [2, 2]) if plain && no_padding => {
                Ok(CompiledWire::Half { source, odd: false })
            }
            (CompiledWire::Shifted(source), [1, 1], [2, 2])
                if plain && conv.padding.top + conv.padding.left == 0 =>
            {
                Ok(CompiledWire::Half { source, odd: true })
            }
            _ => Err(format!("no kernel for {}", node.op)),
        }
    }

    fn unit(
        &mut self,
        value: Value,
        columns: Im2col,
        pointwise: usize,
        source: ConvSource,
        biases: &[(&str, usize)],
        channels: usize,
    ) -> Compiled<CompiledWire> {
        let input = match &source {
            ConvSource::State(slot) => slot.map,
            ConvSource::Normed(step) => match &self.steps[*step] {
                TrainStep::Convolution(c) => c.unit.output,
                _ => return Err("reads no convolution".into()),
            },
        };
        let output = self.map(value).ok_or("writes no image")?;
        let unit = ConvBlock { columns, pointwise, input, output };
        let (norm, at) = self.norm(value, biases, Channels::one(channels))?;
        let target = ConvTarget::Nobody;
        let step = self.push(TrainStep::Convolution(ConvStep { unit, source, target }), Some(norm));
        self.wires[at.index()] = CompiledWire::Made(step);
        Ok(CompiledWire::Nothing)
    }

    /// Compiles FactorizedReduce.
    pub(super) fn halves(
        &mut self,
        value: Value,
        source: Value,
        halves: [Value; 2],
    ) -> Compiled<CompiledWire> {
        let slot = self.state(source)?;
        let nodes = halves.map(|v| self.graph.node(v));
        let mut counts = [0; 2];
        for (count, node) in counts.iter_mut().zip(nodes) {
            (*count, ..) = node.fact.chw().ok_or("writes no image")?;
        }
        let outputs = counts[0] + counts[1];
        if counts[0] != outputs / 2 || slot.map.height < 2 || slot.map.width < 2 {
            return Err("joins halves of unusual sizes".into());
        }
        let [Some(even), Some(odd)] = nodes.map(|n| n.param(ParamRole::Weight).map(String::from)) else {
            return Err("has no weight".into());
        };
        let pointwise = self.parameters.factorized([even, odd], slot.channels, outputs);
        let pairs = nodes.iter().zip(counts);
        let biases: Vec<_> =
            pairs.filter_map(|(n, count)| Some((n.param(ParamRole::Bias)?, count))).collect();
        if biases.len() == 1 {
            return Err("one half alone has a bias".into());
        }
        self.unit(value, Im2col::Parity, pointwise, ConvSource::State(slot), &biases, outputs)
    }
}
