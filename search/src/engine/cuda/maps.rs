//! Where the results of a graph's nodes lie: in memory of their own, or within another's that has them anyway.

use milenas_models::Graph;
use milenas_models::graph::{Node, Value};
use milenas_models::kernels::cuda::depthwise::KINDS;
use milenas_models::kernels::cuda::windows::Windows;
use milenas_models::op::{Conv2d, Op, Padding};

/// A map `[channel][image][row][column]`: some channels of a memory, whose maps are all of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelMap {
    /// The number of the node that the memory is for.
    pub(super) home: usize,
    /// The first channel in it.
    pub(super) first: usize,
    pub(super) channels: usize,
    /// Rows, columns.
    pub(super) size: [usize; 2],
}

impl ChannelMap {
    /// Words of a channel of so many images.
    pub(super) fn length(&self, batch: usize) -> usize {
        batch * self.size[0] * self.size[1]
    }

    /// Words of all channels.
    pub(super) fn words(&self, batch: usize) -> usize {
        self.channels * self.length(batch)
    }
}

/// Windows that slide over one map and make another: their kernel, stride and dilation, and how far outside the first begins.
pub(super) fn windows(
    batch: usize,
    [x, y]: [ChannelMap; 2],
    [kernel, stride, dilation]: [[usize; 2]; 3],
    before: [i32; 2],
) -> Windows {
    Windows { channels: x.channels, batch, input: x.size, output: y.size, kernel, stride, dilation, before }
}

/// How far outside a padded map the first window begins.
pub(super) fn outside(padding: Padding) -> [i32; 2] {
    [padding.top, padding.left].map(|n| i32::try_from(n).unwrap_or(i32::MAX))
}

/// Whose memory a node's result is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Own,
    /// It is the same as this.
    Same(Value),
    /// In this one's, from a channel on.
    Within(Value, usize),
}

/// A node's number among [`KINDS`], if it is a convolution that the depthwise kernels do.
pub(super) fn depthwise_kind(conv: &Conv2d) -> Option<usize> {
    let kind = KINDS.iter().position(|&(side, dilation)| {
        let padding = Padding::all(dilation * (side - 1) / 2);
        conv.kernel == [side; 2] && conv.dilation == [dilation; 2] && conv.padding == padding
    });
    let stride = conv.stride == [1; 2] || conv.stride == [2; 2];
    kind.filter(|_| stride && conv.is_depthwise() && !conv.bias)
}

/// The map of each node; none of those that are no map.
pub(super) fn place(graph: &Graph) -> Vec<Option<ChannelMap>> {
    let mut homes = vec![Home::Own; graph.nodes().len()];
    for (value, node) in graph.values() {
        let same = match &node.op {
            Op::Identity(_) => true,
            // The depthwise kernels rectify what they read.
            Op::Relu(_) => {
                let readers = graph.consumers(value);
                let rectifies = |reader: &Value| matches!(&graph.node(*reader).op, Op::Conv2d(conv) if depthwise_kind(conv).is_some());
                !graph.is_output(value) && !readers.is_empty() && readers.iter().all(rectifies)
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

/// Channels, and rows and columns; what is flat has one of each.
fn size(node: &Node) -> Option<(usize, [usize; 2])> {
    match node.fact.dims() {
        [_, features] => Some((features.fixed()?, [1, 1])),
        _ => node.fact.chw().map(|(channels, rows, columns)| (channels, [rows, columns])),
    }
}
