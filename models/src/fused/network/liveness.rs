//! Liveness of the feature maps of an image: buffers that are allocated before a step, and freed after it.

use super::{ConvSource, SumTerm, TrainStep};

/// Buffer of a feature map.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum MapBuffer {
    /// Output of a step, before its norm.
    Made(usize),
    /// A buffer of states.
    State(usize),
}

/// Buffers that steps allocate and free.
pub(super) struct Liveness {
    /// Buffers that each step is the first to write.
    pub(super) taken: Vec<Vec<MapBuffer>>,
    /// Buffers that no step reads after this one.
    pub(super) given: Vec<Vec<MapBuffer>>,
}

impl Liveness {
    /// Computes the liveness for the given steps and number of state buffers. `last` is the buffer that the head
    /// reads.
    pub(super) fn new(steps: &[TrainStep], buffers: usize, last: usize) -> Liveness {
        let all = (0..steps.len()).map(MapBuffer::Made).chain((0..buffers).map(MapBuffer::State));
        let (mut taken, mut given) = (vec![Vec::new(); steps.len()], vec![Vec::new(); steps.len()]);
        let touched = |at| {
            let (written, mut read) = used_buffers(steps, at);
            read.push(written);
            read
        };
        let touched: Vec<Vec<MapBuffer>> = (0..steps.len()).map(touched).collect();
        for room in all {
            let touches = |rooms: &Vec<MapBuffer>| rooms.contains(&room);
            let Some(end) = touched.iter().rposition(touches) else { continue };
            // The stem writes the first buffer before all steps, and the head reads the last buffer after them.
            if room != MapBuffer::State(0) {
                taken[touched.iter().position(touches).unwrap_or(end)].push(room);
            }
            if room != MapBuffer::State(last) {
                given[end].push(room);
            }
        }
        Liveness { taken, given }
    }
}

/// Returns the buffer that a step writes, and the buffers that it reads.
fn used_buffers(steps: &[TrainStep], at: usize) -> (MapBuffer, Vec<MapBuffer>) {
    let state = |buffer: usize| MapBuffer::State(buffer);
    match &steps[at] {
        TrainStep::Convolution(c) => match &c.source {
            ConvSource::State(slot) => (MapBuffer::Made(at), vec![state(slot.buffer)]),
            ConvSource::Normed(before) => (MapBuffer::Made(at), vec![MapBuffer::Made(*before)]),
        },
        TrainStep::Pool(pool) => (MapBuffer::Made(at), vec![state(pool.source.buffer)]),
        // The step writes nothing: its readers read its source.
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
