//! When the maps of an image are needed: rooms that are taken before a group of steps, and given back after it.

use super::{Source, Step, Term};

/// A map of one image.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Room {
    /// Output of a step, before its norm.
    Made(usize),
    /// A buffer of states.
    State(usize),
}

/// Groups of steps, done one after the other, and the rooms they take and give back.
pub(super) struct Lives {
    /// Steps that do not meet.
    pub(super) groups: Vec<Vec<usize>>,
    /// By group, what it is the first to write.
    pub(super) taken: Vec<Vec<Room>>,
    /// By group, what nobody reads after it.
    pub(super) given: Vec<Vec<Room>>,
}

impl Lives {
    /// Step by step.
    pub(super) fn by_step(steps: &[Step], buffers: usize, last: usize) -> Lives {
        Lives::new((0..steps.len()).map(|at| vec![at]).collect(), steps, buffers, last)
    }

    /// In the fewest groups: each step as early as what it reads is there, and whoever else reads or writes what it writes
    /// is done.
    pub(super) fn by_wave(steps: &[Step], buffers: usize, last: usize) -> Lives {
        let rooms: Vec<(Room, Vec<Room>)> = (0..steps.len()).map(|at| rooms(steps, at)).collect();
        let meet = |a: usize, b: usize| {
            let ((written, read), (other, others)) = (&rooms[a], &rooms[b]);
            written == other || read.contains(other) || others.contains(written)
        };
        let (mut groups, mut waves) = (Vec::<Vec<usize>>::new(), Vec::with_capacity(steps.len()));
        for at in 0..steps.len() {
            let wave = (0..at).filter(|&before| meet(before, at)).map(|b| waves[b] + 1).max().unwrap_or(0);
            waves.push(wave);
            groups.resize_with(groups.len().max(wave + 1), Vec::new);
            groups[wave].push(at);
        }
        // The longest first: the others then fill up what time is left.
        groups.iter_mut().for_each(|group| group.sort_by_key(|&at| std::cmp::Reverse(steps[at].work())));
        Lives::new(groups, steps, buffers, last)
    }

    fn new(groups: Vec<Vec<usize>>, steps: &[Step], buffers: usize, last: usize) -> Lives {
        let all = (0..steps.len()).map(Room::Made).chain((0..buffers).map(Room::State));
        let (mut taken, mut given) = (vec![Vec::new(); groups.len()], vec![Vec::new(); groups.len()]);
        let mut touched: Vec<Vec<Room>> = Vec::with_capacity(groups.len());
        for group in &groups {
            let of = |&at: &usize| {
                let (written, mut read) = rooms(steps, at);
                read.push(written);
                read
            };
            touched.push(group.iter().flat_map(of).collect());
        }
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
        Lives { groups, taken, given }
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
