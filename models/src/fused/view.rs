//! Location of a feature map in a buffer.

use crate::kernels::cpu::{MapSize, Pack};

/// A location in a buffer of images.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct BufferOffset {
    /// Packs per image.
    pub image: usize,
    /// Packs of the image before the feature map.
    pub offset: usize,
}

/// A feature map of every image of a batch.
#[derive(Copy, Clone, Debug)]
pub struct MapView<'a> {
    /// Images of `place.image` packs each.
    pub packs: &'a [Pack],
    /// Location of the feature map in an image.
    pub place: BufferOffset,
    /// Size of the feature map.
    pub map: MapSize,
}

impl<'a> MapView<'a> {
    /// Returns the feature map of image `i`.
    pub fn image(&self, i: usize) -> &'a [Pack] {
        &self.packs[i * self.place.image + self.place.offset..][..self.map.len()]
    }
}
