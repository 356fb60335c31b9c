//! When the maps of an image are needed: rooms that are taken before a step, and given back after it.

use super::{ConvSource, SumTerm, TrainStep};

/// A map of one image.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum MapBuffer {
    /// Output of a step, before its norm.
    Made(usize),
    /// A buffer of states.
    State(usize),
}

/// The rooms that steps take and give back.
pub(super) struct Lives {
    /// By step, what it is the first to write.
    pub(super) taken: Vec<Vec<MapBuffer>>,
    /// By step, what nobody reads after it.
    pub(super) given: Vec<Vec<MapBuffer>>,
}

impl Lives {
    /// Of these steps in their order, with so many buffers of states.
    pub(super) fn new(steps: &[TrainStep], buffers: usize, last: usize) -> Lives {
        let all = (0..steps.len()).map(MapBuffer::Made).chain((0..buffers).map(MapBuffer::State));
        let (mut taken, mut given) = (vec![Vec::new(); steps.len()], vec![Vec::new(); steps.len()]);
        let touched = |at| {
            let (written, mut read) = rooms(steps, at);
            read.push(written);
            read
        };
        let touched: Vec<Vec<MapBuffer>> = (0..steps.len()).map(touched).collect();
        for room in all {
            let touches = |rooms: &Vec<MapBuffer>| rooms.contains(&room);
            let Some(end) = touched.iter().rposition(touches) else { continue };
            // The stem writes the first buffer before all steps, the head reads the last after them.
            if room != MapBuffer::State(0) {
                taken[touched.iter().position(touches).unwrap_or(end)].push(room);
            }
            if room != MapBuffer::State(last) {
                given[end].push(room);
            }
        }
        Lives { taken, given }
    }
}

/// What a step writes, and what it reads.
fn rooms(steps: &[TrainStep], at: usize) -> (MapBuffer, Vec<MapBuffer>) {
    let state = |buffer: usize| MapBuffer::State(buffer);
    match &steps[at] {
        TrainStep::Convolution(c) => match &c.source {
            ConvSource::State(slot) => (MapBuffer::Made(at), vec![state(slot.buffer)]),
            ConvSource::Normed(before) => (MapBuffer::Made(at), vec![MapBuffer::Made(*before)]),
        },
        TrainStep::Pool(pool) => (MapBuffer::Made(at), vec![state(pool.source.buffer)]),
        // Written by nobody: its readers look where it came from.
        TrainStep::Passing(passing) => (MapBuffer::Made(at), vec![state(passing.source.buffer)]),
        TrainStep::Sum(sum) => {
            let read = |term: &SumTerm| match term {
                SumTerm::Made(i) => match &steps[*i] {
                    TrainStep::Passing(passing) => state(passing.source.buffer),
                    _ => MapBuffer::Made(*i),
                },
                SumTerm::State(slot) => state(slot.buffer),
            };
            (state(sum.out.buffer), sum.terms.iter().map(read).collect())
        }
    }
}
