//! Division of rows into parts, one block per part, and the memory for the partial sums of the blocks.

use super::device::{Arg, Device, Words};
use crate::Result;

/// Number of blocks that a large GPU runs at once: eight on each of 132 multiprocessors.
pub(super) const BLOCKS: usize = 1056;

/// Fewest elements of a row for which a block is worthwhile, if the cost per element is low.
pub(super) const LEAST: usize = 1024;

/// Number of parts of each of `rows` rows; a part has at least `least` elements. For few rows there are as many blocks
/// as run concurrently. For many rows there are several times as many, so that the last blocks do not run alone for
/// long.
pub(super) fn parts(rows: usize, length: usize, least: usize) -> usize {
    let wanted = if 2 * rows <= BLOCKS { BLOCKS / rows.max(1) } else { (4 * BLOCKS).div_ceil(rows) };
    wanted.min(length / least).max(1)
}

/// Number of parts where parts have no cost, since nothing is summed over them.
pub(super) fn many_parts(rows: usize, length: usize) -> usize {
    (4 * BLOCKS).div_ceil(rows.max(1)).min(length / LEAST).max(1)
}

/// Ring buffer of scratch memory. Kernels close to each other in the sequence get different ranges, so they may run
/// concurrently.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    words: Words,
    next: usize,
}

/// Number of consecutive kernels that get different ranges, if each needs as much as the largest.
const NEIGHBOURS: usize = 8;

/// Scratch memory of kernels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    pub(super) scratch: Turns,
    pub(super) tickets: Turns,
}

impl Kept {
    /// Starts from the beginning, so that the same sequence of calls gets the same addresses.
    pub fn begin(&mut self) {
        (self.scratch.next, self.tickets.next) = (0, 0);
    }
}

impl Turns {
    /// Returns a ring over the given memory.
    pub(super) fn of(words: Words) -> Turns {
        Turns { words, next: 0 }
    }

    /// Returns the size to grow to, in elements, if the ring is too small for kernels that need `len`. The old memory
    /// may still be in use.
    pub(super) fn needed_len(&self, len: usize) -> Option<usize> {
        let enough = NEIGHBOURS * len.next_multiple_of(LINE);
        (self.words.len() < enough).then(|| enough.max(2 * self.words.len()))
    }

    /// Returns the next `len` elements, aligned to a cache line of the GPU.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the ring has fewer elements.
    pub(super) fn take(&mut self, len: usize) -> Result<Words> {
        if self.next + len > self.words.len() {
            self.next = 0;
        }
        let found = self.words.part(self.next, len);
        self.next += len.next_multiple_of(LINE);
        found
    }
}

/// Elements of a cache line of a GPU.
const LINE: usize = 32;

/// Returns memory for a kernel that computes `units` results, each from `parts` partial sums of `each` elements: the
/// partial sums, and a semaphore per result that shows which block is the last. With one part, both are empty.
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

/// Returns the same memory, which is not empty with one part either.
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
        assert!(Turns::default().needed_len(0).is_none());
        let more = Turns::default().needed_len(33).unwrap();
        let mut turns = Turns::of(Words::new(64, more));
        assert!(
            turns.needed_len(64).is_none() && turns.needed_len(65).is_some_and(|words| words >= 2 * more)
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
