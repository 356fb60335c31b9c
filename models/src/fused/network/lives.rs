//! When the maps of an image are needed: rooms that are taken before a step, and given back after it.

use super::{Source, Step, Term};

/// A map of one image.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Room {
    /// Output of a step, before its norm.
    Made(usize),
    /// A buffer of states.
    State(usize),
}

/// The rooms that steps take and give back.
pub(super) struct Lives {
    /// By step, what it is the first to write.
    pub(super) taken: Vec<Vec<Room>>,
    /// By step, what nobody reads after it.
    pub(super) given: Vec<Vec<Room>>,
}

impl Lives {
    /// Of these steps in their order, with so many buffers of states.
    pub(super) fn new(steps: &[Step], buffers: usize, last: usize) -> Lives {
        let all = (0..steps.len()).map(Room::Made).chain((0..buffers).map(Room::State));
        let (mut taken, mut given) = (vec![Vec::new(); steps.len()], vec![Vec::new(); steps.len()]);
        let touched = |at| {
            let (written, mut read) = rooms(steps, at);
            read.push(written);
            read
        };
        let touched: Vec<Vec<Room>> = (0..steps.len()).map(touched).collect();
        for room in all {
            let touches = |rooms: &Vec<Room>| rooms.contains(&room);
            let Some(end) = touched.iter().rposition(touches) else { continue };
            // The stem writes the first buffer before all steps, the head reads the last after them.
            if room != Room::State(0) {
                taken[touched.iter().position(touches).unwrap_or(end)].push(room);
            }
            if room != Room::State(last) {
                given[end].push(room);
            }
        }
        Lives { taken, given }
    }
}

/// What a step writes, and what it reads.
fn rooms(steps: &[Step], at: usize) -> (Room, Vec<Room>) {
    let state = |buffer: usize| Room::State(buffer);
    match &steps[at] {
        Step::Convolution(c) => match &c.source {
            Source::State(slot) => (Room::Made(at), vec![state(slot.buffer)]),
            Source::Normed(before) => (Room::Made(at), vec![Room::Made(*before)]),
        },
        Step::Pool(pool) => (Room::Made(at), vec![state(pool.source.buffer)]),
        // Written by nobody: its readers look where it came from.
        Step::Passing(passing) => (Room::Made(at), vec![state(passing.source.buffer)]),
        Step::Sum(sum) => {
            let read = |term: &Term| match term {
                Term::Made(i) => match &steps[*i] {
                    Step::Passing(passing) => state(passing.source.buffer),
                    _ => Room::Made(*i),
                },
                Term::State(slot) => state(slot.buffer),
            };
            (state(sum.out.buffer), sum.terms.iter().map(read).collect())
        }
    }
}
