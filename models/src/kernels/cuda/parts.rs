//! Rows cut into parts, a block each, and the memory in which blocks keep the sums of their parts.

use super::device::{Arg, Device, Words};
use crate::Result;

/// Blocks that a large GPU runs at once: eight on each of 132 multiprocessors.
pub(super) const BLOCKS: usize = 1056;

/// The fewest numbers of a row that are worth a block, where one of them costs little.
pub(super) const LEAST: usize = 1024;

/// Into how many parts to cut each of so many rows, of at least `least` numbers each: as many as run at once, or where the rows alone are
/// nearly so many, several times as many, so that the last of them do not run alone for long.
pub(super) fn parts(rows: usize, length: usize, least: usize) -> usize {
    let wanted = if 2 * rows <= BLOCKS { BLOCKS / rows.max(1) } else { (4 * BLOCKS).div_ceil(rows) };
    wanted.min(length / least).max(1)
}

/// The same where parts cost nothing, since nothing is summed over them.
pub(super) fn many_parts(rows: usize, length: usize) -> usize {
    (4 * BLOCKS).div_ceil(rows.max(1)).min(length / LEAST).max(1)
}

/// Memory for what kernels keep, which they have in turn: those that are near each other have parts of their own, and may run at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    words: Words,
    next: usize,
}

/// Kernels that have parts of their own, where all of them want as much as the one that wants most.
const NEIGHBOURS: usize = 8;

/// All that kernels keep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    pub(super) scratch: Turns,
    pub(super) tickets: Turns,
}

impl Kept {
    /// Begins anew, so that the same sequence of calls asks for the same addresses.
    pub fn begin(&mut self) {
        (self.scratch.next, self.tickets.next) = (0, 0);
    }
}

impl Turns {
    /// Over so much memory.
    pub(super) fn of(words: Words) -> Turns {
        Turns { words, next: 0 }
    }

    /// How many words there should be, if there are too few for kernels that want `len`. Those before may still be in use.
    pub(super) fn wants_gradient(&self, len: usize) -> Option<usize> {
        let enough = NEIGHBOURS * len.next_multiple_of(LINE);
        (self.words.len() < enough).then(|| enough.max(2 * self.words.len()))
    }

    /// The next `len` words, which begin on a line of the GPU's.
    ///
    /// # Errors
    /// More than there are.
    pub(super) fn take(&mut self, len: usize) -> Result<Words> {
        if self.next + len > self.words.len() {
            self.next = 0;
        }
        let found = self.words.part(self.next, len);
        self.next += len.next_multiple_of(LINE);
        found
    }
}

/// Words that a GPU reads at once.
const LINE: usize = 32;

/// For a kernel whose blocks sum parts of units, `each` words a unit: where they leave them, and the tickets by which the last block of a
/// unit finds out that it is. A unit of one part needs neither.
pub(super) fn part_sums(
    device: &mut dyn Device,
    units: usize,
    parts: usize,
    each: usize,
) -> Result<[Arg; 2]> {
    match parts {
        1 => Ok([Arg::Write(Words::NONE); 2]),
        _ => kept_sums(device, units, parts, each),
    }
}

/// The same for a kernel that needs them for one part too.
pub(super) fn kept_sums(
    device: &mut dyn Device,
    units: usize,
    parts: usize,
    each: usize,
) -> Result<[Arg; 2]> {
    let words = units * parts * each;
    Ok([device.scratch(words)?.written(words)?, device.tickets(units)?.written(units)?])
}

#[cfg(test)]
mod tests {
    use super::{Kept, LINE, Turns};
    use crate::kernels::cuda::Words;

    #[test]
    fn turns_are_apart_until_there_is_no_more() {
        assert!(Turns::default().wants_gradient(0).is_none());
        let more = Turns::default().wants_gradient(33).unwrap();
        let mut turns = Turns::of(Words::new(64, more));
        assert!(
            turns.wants_gradient(64).is_none()
                && turns.wants_gradient(65).is_some_and(|words| words >= 2 * more)
        );
        let mut last = turns.take(33).unwrap();
        assert_eq!(last, Words::new(64, 33));
        for _ in 1..more / (2 * LINE) {
            let own = turns.take(33).unwrap();
            assert!(!own.overlaps(last) && own.address().is_multiple_of(64));
            last = own;
        }
        assert_eq!(turns.take(33).unwrap(), Words::new(64, 33), "from the beginning");
        let mut kept = Kept { scratch: turns, tickets: turns };
        kept.begin();
        assert_eq!(kept.scratch.take(5).unwrap(), Words::new(64, 5));
    }
}
