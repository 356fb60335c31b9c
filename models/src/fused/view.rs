//! Where a map lies among all that is kept of an image.

use crate::kernels::cpu::{MapSize, Pack};

/// A place in a buffer of images.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct BufferOffset {
    /// Packs of an image.
    pub image: usize,
    /// Packs of the image before the map.
    pub offset: usize,
}

/// A map of every image of a batch.
#[derive(Copy, Clone, Debug)]
pub struct MapView<'a> {
    /// `[image]` of `place.image` packs.
    pub packs: &'a [Pack],
    /// Where in an image the map lies.
    pub place: BufferOffset,
    /// Its size.
    pub map: MapSize,
}

impl<'a> MapView<'a> {
    /// The map of image `i`.
    pub fn image(&self, i: usize) -> &'a [Pack] {
        &self.packs[i * self.place.image + self.place.offset..][..self.map.len()]
    }
}
