//! Nodes as sums of terms.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use super::norm::{NormCoefficients, Terms};
use super::parts::many_parts;
use crate::Result;

/// Edges that begin at one state.
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    /// How many.
    pub count: usize,
    /// Where each edge's terms begin in `terms`, and where the last one's end.
    pub first: Words,
    /// Numbers of terms.
    pub terms: Words,
    /// The number of each edge's node; no two are the same.
    pub target: Words,
    /// Words of a channel of a map.
    pub length: usize,
}

impl Edges {
    /// Each edge's node becomes the sum of its terms; they are added to it where `add`. Maps are `[channel][length]`; `z` has those
    /// that terms number, `x` is the one of a negative number.
    pub fn forward(
        &self,
        device: &mut dyn Device,
        terms: &Terms,
        [z, x]: [Words; 2],
        [scale, shift]: [Words; 2],
        nodes: Words,
        add: bool,
    ) -> Result<()> {
        let (map, len) = (terms.channels * self.length, terms.count * terms.channels);
        let parts = many_parts(self.count * terms.channels, self.length);
        let args = [
            Arg::Read(z),
            x.may_hold(map)?,
            terms.source.may_hold(terms.count)?,
            scale.may_hold(len)?,
            shift.may_hold(len)?,
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

/// Maps and their terms.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// How many.
    pub count: usize,
    /// Where each one's terms begin, and where the last one's end; or none at all, for one each, of its number.
    pub first: Words,
    /// Of each term, the number of the node it adds to; or none at all, for its own.
    pub target: Words,
    /// Channels of a map, and words of a channel.
    pub size: [usize; 2],
}

impl Sources {
    /// From the nodes' gradients to those of the sources, of maps `[channel][length]` `z`; `out` may be `z`. Added to `out`
    /// where `add`.
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
