//! Gradients of states in the backward pass: their buffers, and which parts hold a gradient. The first writer of a
//! part overwrites it, so buffers need not be filled with zeros first.

use core::ops::Range;

use rayon::prelude::*;

use crate::kernels::cpu::Pack;

use super::MapSlot;

/// Gradients by buffer.
#[derive(Default)]
pub(super) struct StateGradients {
    /// Gradients by image, in the layout of the states; empty before the first write and after the last read.
    pub(super) rooms: Vec<Vec<Pack>>,
    /// Packs per image of each buffer.
    images: Vec<usize>,
    /// Parts of an image that hold a gradient.
    written: Vec<Vec<Range<usize>>>,
    /// Free memory for other buffers.
    spare: Vec<Vec<Pack>>,
}

impl StateGradients {
    /// Returns an empty store for buffers with the given packs per image.
    pub(super) fn new(images: &[usize]) -> StateGradients {
        let (count, images) = (images.len(), images.to_vec());
        StateGradients {
            rooms: vec![Vec::new(); count],
            images,
            written: vec![Vec::new(); count],
            spare: Vec::new(),
        }
    }

    /// Prepares a slot for writing. Returns whether the writer must add to the values there; if not, it must
    /// overwrite all of the slot.
    pub(super) fn claim(&mut self, slot: MapSlot, batch: usize) -> bool {
        let range = slot.offset..slot.offset + slot.map.len();
        self.open(slot.buffer, batch);
        let missing = self.missing(slot.buffer, &range);
        let add = missing != [range.clone()];
        if add {
            self.blank(slot.buffer, &missing);
        }
        self.written[slot.buffer].push(range);
        add
    }

    /// Prepares a slot for reading: fills parts that have no gradient with zeros.
    pub(super) fn zero_unwritten(&mut self, slot: MapSlot, batch: usize) {
        let range = slot.offset..slot.offset + slot.map.len();
        self.zero_unwritten_range(slot.buffer, range, batch);
    }

    /// Prepares a whole buffer for reading, like [`zero_unwritten`](Self::zero_unwritten).
    pub(super) fn zero_unwritten_all(&mut self, buffer: usize, batch: usize) {
        self.zero_unwritten_range(buffer, 0..self.images[buffer], batch);
    }

    fn zero_unwritten_range(&mut self, buffer: usize, range: Range<usize>, batch: usize) {
        self.open(buffer, batch);
        let missing = self.missing(buffer, &range);
        self.blank(buffer, &missing);
        self.written[buffer].push(range);
    }

    /// Frees the memory of a buffer for other buffers.
    pub(super) fn release(&mut self, buffer: usize) {
        self.written[buffer].clear();
        let room = std::mem::take(&mut self.rooms[buffer]);
        if !room.is_empty() {
            self.spare.push(room);
        }
    }

    fn open(&mut self, buffer: usize, batch: usize) {
        let (len, room) = (batch * self.images[buffer], &mut self.rooms[buffer]);
        if room.is_empty() {
            // The smallest memory that is large enough, else the largest.
            let fit = |room: usize| (room < len, room.abs_diff(len));
            let best = (0..self.spare.len()).min_by_key(|&i| fit(self.spare[i].capacity()));
            *room = best.map(|i| self.spare.swap_remove(i)).unwrap_or_default();
            room.resize(len, Pack::ZERO);
        }
    }

    /// Returns the parts of a range that hold no gradient.
    fn missing(&self, buffer: usize, range: &Range<usize>) -> Vec<Range<usize>> {
        let mut missing = vec![range.clone()];
        for written in &self.written[buffer] {
            let around = |part: Range<usize>| {
                let before = part.start..part.end.min(written.start);
                let after = part.start.max(written.end)..part.end;
                [before, after].into_iter().filter(|part| !part.is_empty())
            };
            missing = missing.into_iter().flat_map(around).collect();
        }
        missing
    }

    fn blank(&mut self, buffer: usize, parts: &[Range<usize>]) {
        if !parts.is_empty() {
            self.rooms[buffer].par_chunks_exact_mut(self.images[buffer]).for_each(|image| {
                parts.iter().for_each(|part| image[part.clone()].fill(Pack::ZERO));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::{Channels, MapSize};

    fn slot(offset: usize, height: usize) -> MapSlot {
        let map = MapSize { packs: 1, height, width: 1 };
        MapSlot { buffer: 0, offset, map, channels: Channels::one(16) }
    }

    #[test]
    fn the_first_to_write_a_part_sets_it_and_nothing_old_is_read() {
        let mut gradients = StateGradients::new(&[6]);
        assert!(!gradients.claim(slot(2, 2), 2));
        gradients.rooms[0].fill(Pack::ONE);
        // Half of the slot holds a gradient, so the writer must add; the other half must be zero.
        assert!(gradients.claim(slot(0, 4), 2));
        assert!(gradients.claim(slot(1, 2), 2));
        gradients.zero_unwritten_all(0, 2);
        let [zero, one] = [Pack::ZERO, Pack::ONE];
        let image = [zero, zero, one, one, zero, zero];
        assert_eq!(gradients.rooms[0], [image, image].concat());
        gradients.rooms[0].fill(Pack::ONE);
        gradients.release(0);
        assert!(!gradients.claim(slot(0, 1), 1));
        gradients.zero_unwritten(slot(0, 6), 1);
        assert_eq!(gradients.rooms[0], [one, zero, zero, zero, zero, zero]);
    }
}
