//! Nodes as weighted sums of terms.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use super::norm::{CudaScaling, NormCoefficients, TermMaps, Terms};
use super::parts::many_parts;
use crate::Result;

/// Edges that begin at one state.
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    /// Number of edges.
    pub count: usize,
    /// Index in `terms` of the first term of each edge, and the number of terms at the end.
    pub first: Words,
    /// Indices of terms.
    pub terms: Words,
    /// Index of each edge's node; no two edges have the same.
    pub target: Words,
    /// Elements of a channel of a feature map.
    pub length: usize,
}

impl Edges {
    /// Sets each edge's node to the sum of its terms, or adds the sum if `add`. Feature maps are `[channel][length]`.
    pub fn forward(
        &self,
        device: &mut dyn Device,
        terms: &Terms,
        maps: TermMaps,
        scaling: CudaScaling,
        nodes: Words,
        add: bool,
    ) -> Result<()> {
        let (map, len) = (terms.channels * self.length, terms.count * terms.channels);
        let parts = many_parts(self.count * terms.channels, self.length);
        let args = [
            Arg::Read(maps.z),
            maps.x.may_hold(map)?,
            terms.source.may_hold(terms.count)?,
            scaling.scale.may_hold(len)?,
            scaling.shift.may_hold(len)?,
            self.first.holds(self.count + 1)?,
            self.terms.may_hold(terms.count)?,
            self.target.holds(self.count)?,
            Arg::Write(nodes),
            int(self.count),
            int(terms.channels),
            int(self.length),
            Arg::Int(i32::from(add)),
            int(parts),
        ];
        launch(device, "mixture_forward", LaunchGrid::Rows(self.count * terms.channels * parts), &args)
    }
}

/// Feature maps and the terms that use them.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// Number of feature maps.
    pub count: usize,
    /// Index of the first term of each feature map, and the number of terms at the end. If empty, each has one term,
    /// of the same index.
    pub first: Words,
    /// Index of the node that each term is added to. If empty, it is the index of the term.
    pub target: Words,
    /// Channels of a feature map, and elements of a channel.
    pub size: [usize; 2],
}

impl Sources {
    /// Computes the gradients of the sources from those of the nodes, or adds them to `out` if `add`. `z` holds the
    /// sources, `[channel][length]` each; `out` may be `z`.
    pub fn backward(
        &self,
        device: &mut dyn Device,
        gradient: Words,
        z: Words,
        slopes: &NormCoefficients,
        out: Words,
        add: bool,
    ) -> Result<()> {
        let [channels, length] = self.size;
        let count = self.count * channels * length;
        let first =
            if self.first.is_empty() { Arg::Read(Words::NONE) } else { self.first.holds(self.count + 1)? };
        let [a, b, c] = slopes.abc.map(Arg::Read);
        let parts = many_parts(self.count * channels, length);
        let args = [
            Arg::Read(gradient),
            Arg::Read(self.target),
            z.holds(count)?,
            first,
            a,
            b,
            c,
            out.written(count)?,
            int(self.count),
            int(channels),
            int(length),
            Arg::Int(i32::from(add)),
            int(parts),
        ];
        launch(device, "mixture_backward", LaunchGrid::Rows(self.count * channels * parts), &args)
    }
}
