//! The gradients that a step of the backward pass reads and writes, which may be in one buffer.

use crate::kernels::cpu::Pack;

use super::super::context::PassContext;
use super::forward::Split;
use super::gradients::StateGradients;
use super::{FusedNetwork, MapSlot};

impl FusedNetwork {
    /// Returns the gradients of a slot to write and of a slot to read, split by chunks. Also returns whether to add
    /// to the gradient that is written instead of overwriting it.
    pub(super) fn pairs<'a>(
        &self,
        c: &PassContext<'_>,
        gradients: &'a mut StateGradients,
        write: Option<MapSlot>,
        read: Option<MapSlot>,
    ) -> (Vec<GradientPair<'a>>, bool) {
        if let Some(read) = read {
            gradients.zero_unwritten(read, c.batch);
        }
        let add = write.is_some_and(|write| gradients.claim(write, c.batch));
        let image = |slot: Option<MapSlot>| slot.map_or(0, |s| self.program.images[s.buffer]);
        let same = match (write, read) {
            (Some(write), Some(read)) => write.buffer == read.buffer,
            _ => false,
        };
        let mut writing: &'a mut [Pack] = &mut [];
        let mut reading: &'a [Pack] = &[];
        for (buffer, gradient) in gradients.rooms.iter_mut().enumerate() {
            if write.is_some_and(|s| s.buffer == buffer) {
                writing = gradient;
            } else if read.is_some_and(|s| s.buffer == buffer) {
                reading = gradient;
            }
        }
        let parts = c.cut(writing, image(write)).into_iter().enumerate();
        let len = if same { 0 } else { image(read) };
        let pairs = parts
            .map(|(chunk, writing)| {
                let images = c.images(chunk);
                let reading = &reading[images.start * len..images.end * len];
                GradientPair { writing, reading, write, read, same, image: [image(write), image(read)] }
            })
            .collect();
        (pairs, add)
    }
}

/// A chunk's gradients: of a slot to write and of a slot to read, which may be in one buffer.
pub(super) struct GradientPair<'a> {
    writing: &'a mut [Pack],
    reading: &'a [Pack],
    write: Option<MapSlot>,
    read: Option<MapSlot>,
    same: bool,
    /// Packs per image of the buffer to write and of the buffer to read.
    image: [usize; 2],
}

impl GradientPair<'_> {
    /// Returns the gradients of the chunk's image `index`; without a slot, the range is empty.
    pub(super) fn of(&mut self, index: usize) -> (&mut [Pack], &[Pack]) {
        let range = |slot: Option<MapSlot>| slot.map_or(0..0, |s| s.offset..s.offset + s.map.len());
        let image = &mut self.writing[index * self.image[0]..][..self.image[0]];
        let (out, others) = Split::of(image, range(self.write));
        let read = match self.same {
            true => others.get(range(self.read)),
            false => &self.reading[index * self.image[1]..][range(self.read)],
        };
        (out, read)
    }
}
