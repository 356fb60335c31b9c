//! Random crop and flip on bytes. The padding is black before normalisation, as in the paper.

use milenas_models::Rng;
use milenas_models::input::ImageSize;

use crate::config::settings::settings;

settings! {
    /// Augmentation of training images.
    #[derive(Copy)]
    pub struct Augment {
        /// Padding of the crop on each side, as a fraction of the image's side: 0.125 is 4 pixels of 32, and 1 of 8.
        crop: f64 = 0.125, in Range::Between(0.0, 1.0);
        /// Whether images are mirrored left to right with probability 1/2. Set it to false for digits, text and
        /// everything with a direction.
        flip: bool = true;
    }
}

/// Sampled shift, mirroring and cutout of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// Number of rows by which the image's top left corner lies above that of the crop; negative below it.
    pub down: i32,
    /// Number of columns by which the image's top left corner lies to the left of that of the crop.
    pub right: i32,
    /// Whether the crop is mirrored left to right.
    pub mirrored: bool,
    /// Rows and columns of the cutout, each as start and end (exclusive). They are set to zero after
    /// normalisation.
    pub hole: [[i32; 2]; 2],
}

impl Augment {
    /// Samples a move for an image of this size.
    pub fn draw(&self, size: ImageSize, rng: &mut Rng) -> Move {
        let mut shift = |side: usize| {
            let padding = (side as f64 * self.crop).round() as usize;
            rng.below(2 * padding + 1) as i32 - padding as i32
        };
        let (down, right) = (shift(size.height), shift(size.width));
        Move { down, right, mirrored: self.flip && rng.chance(0.5), ..Move::default() }
    }
}

impl Move {
    /// Writes the moved `image` `[height, width, channels]` into `out`; pixels outside of the image are black.
    pub fn apply(self, image: &[u8], size: ImageSize, channels: usize, out: &mut [u8]) {
        let ImageSize { height, width } = size;
        let place = |at: usize, shift: i32, side: usize| {
            at.checked_add_signed(shift as isize).filter(|&place| place < side)
        };
        for (row, out) in out.chunks_exact_mut(width * channels).enumerate() {
            let from = place(row, self.down, height);
            for (column, out) in out.chunks_exact_mut(channels).enumerate() {
                let column = if self.mirrored { width - 1 - column } else { column };
                match (from, place(column, self.right, width)) {
                    (Some(r), Some(c)) => {
                        out.copy_from_slice(&image[(r * width + c) * channels..][..channels])
                    }
                    _ => out.fill(0),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ImageSize = ImageSize { height: 2, width: 4 };
    const IMAGE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn draws(augment: Augment) -> std::collections::BTreeMap<Vec<u8>, usize> {
        let mut rng = Rng::new(0, "augment");
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..9000 {
            let mut out = vec![9; 8];
            augment.draw(SIZE, &mut rng).apply(&IMAGE, SIZE, 1, &mut out);
            *seen.entry(out).or_insert(0) += 1;
        }
        seen
    }

    #[test]
    fn all_shifts_are_equally_likely_and_padding_is_black() {
        // A quarter of the width is one pixel; a quarter of the height rounds to one pixel too.
        let seen = draws(Augment { crop: 0.25, flip: false });
        assert_eq!(seen.len(), 9);
        assert!(seen.values().all(|n| (900..1100).contains(n)), "{seen:?}");
        assert!(
            seen.contains_key(&vec![6, 7, 8, 0, 0, 0, 0, 0])
                && seen.contains_key(&vec![0, 0, 0, 0, 0, 1, 2, 3])
        );
    }

    #[test]
    fn half_are_mirrored() {
        let seen = draws(Augment { crop: 0.0, flip: true });
        assert_eq!(seen.len(), 2);
        assert!((4200..4800).contains(&seen[&vec![4, 3, 2, 1, 8, 7, 6, 5]]));
    }
}
