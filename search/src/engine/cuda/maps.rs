//! Memory layout of a graph's feature maps: each result has its own buffer, or is part of another result's
//! buffer.

use milenas_models::Graph;
use milenas_models::graph::{Node, Value};
use milenas_models::kernels::cuda::depthwise::KINDS;
use milenas_models::op::{Conv2d, Op, Padding};

/// Feature map `[channel][image][row][column]`: a range of channels of a buffer, whose maps all have one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelMap {
    /// Index of the node that owns the buffer.
    pub(super) home: usize,
    /// First channel in the buffer.
    pub(super) first: usize,
    /// Number of channels.
    pub(super) channels: usize,
    /// Number of rows and columns.
    pub(super) size: [usize; 2],
}

impl ChannelMap {
    /// Returns the number of elements of a channel for `batch` images.
    pub(super) fn length(&self, batch: usize) -> usize {
        batch * self.size[0] * self.size[1]
    }

    /// Returns the number of elements of all channels.
    pub(super) fn words(&self, batch: usize) -> usize {
        self.channels * self.length(batch)
    }
}

/// Returns the padding before the first window.
pub(super) fn outside(padding: Padding) -> [i32; 2] {
    [padding.top, padding.left].map(|n| i32::try_from(n).unwrap_or(i32::MAX))
}

/// Owner of the buffer of a node's result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// The node itself.
    Own,
    /// Another value; the result is an alias of it.
    Same(Value),
    /// Another value, in whose buffer the result starts at a channel.
    Within(Value, usize),
}

/// Returns the index of a convolution among [`KINDS`], if the depthwise kernels support it.
pub(super) fn depthwise_kind(conv: &Conv2d) -> Option<usize> {
    let kind = KINDS.iter().position(|&(side, dilation)| {
        let padding = Padding::all(dilation * (side - 1) / 2);
        conv.kernel == [side; 2] && conv.dilation == [dilation; 2] && conv.padding == padding
    });
    let stride = conv.stride == [1; 2] || conv.stride == [2; 2];
    kind.filter(|_| stride && conv.is_depthwise() && !conv.bias)
}

/// Returns the feature map of each node; `None` for results that are no feature maps.
pub(super) fn place(graph: &Graph) -> Vec<Option<ChannelMap>> {
    let mut homes = vec![Home::Own; graph.nodes().len()];
    for (value, node) in graph.values() {
        let same = match &node.op {
            Op::Identity(_) => true,
            // The depthwise kernels apply ReLU to their input.
            Op::Relu(_) => {
                let readers = graph.consumers(value);
                let applies_relu = |reader: &Value| matches!(&graph.node(*reader).op, Op::Conv2d(conv) if depthwise_kind(conv).is_some());
                !graph.is_output(value) && !readers.is_empty() && readers.iter().all(applies_relu)
            }
            Op::Flatten(_) => {
                graph.fact(node.inputs[0]).chw().is_some_and(|(_, rows, columns)| rows * columns == 1)
            }
            Op::Concat(_) => {
                let mut first = 0;
                for part in &node.inputs {
                    let once = node.inputs.iter().filter(|other| *other == part).count() == 1;
                    let fed = matches!(graph.node(*part).op, Op::Input(_));
                    if homes[part.index()] == Home::Own && once && !fed {
                        homes[part.index()] = Home::Within(value, first);
                    }
                    first += size(graph.node(*part)).map_or(0, |(channels, _)| channels);
                }
                false
            }
            _ => false,
        };
        if same {
            homes[value.index()] = Home::Same(node.inputs[0]);
        }
    }
    let map = |(value, node): (Value, &Node)| {
        let (channels, size) = size(node)?;
        let (mut home, mut first) = (value.index(), 0);
        loop {
            match homes[home] {
                Home::Own => return Some(ChannelMap { home, first, channels, size }),
                Home::Same(other) => home = other.index(),
                Home::Within(other, from) => {
                    home = other.index();
                    first += from;
                }
            }
        }
    };
    graph.values().map(map).collect()
}

/// Returns channels, and rows and columns; flat results have one of each.
fn size(node: &Node) -> Option<(usize, [usize; 2])> {
    match node.fact.dims() {
        [_, features] => Some((features.fixed()?, [1, 1])),
        _ => node.fact.chw().map(|(channels, rows, columns)| (channels, [rows, columns])),
    }
}
