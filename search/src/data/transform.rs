//! Transforms of a training image, in order: crop, flip and colours on bytes, then cutout on normalised values.

use milenas_models::Rng;
use milenas_models::input::{ImageSize, InputContract};

use super::photo::{jitter, resized_crop};
use super::{Augment, Move};

/// Random transform of a training image. From an [`Augment`] alone it is the transform of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// Padded crop and flip.
    pub augment: Augment,
    /// Smallest fraction of the area that a random resized crop keeps. It replaces the padded crop; 0 keeps the
    /// padded crop.
    pub resized_crop: f64,
    /// Largest relative change of brightness, contrast and saturation; the hue changes by half of it. 0 for
    /// none.
    pub jitter: f64,
    /// Side of the cutout square, as a fraction of the image's side; 0 for none.
    pub cutout: f64,
}

impl From<Augment> for Transform {
    fn from(augment: Augment) -> Self {
        Transform { augment, resized_crop: 0.0, jitter: 0.0, cutout: 0.0 }
    }
}

impl Transform {
    /// Returns whether a [`Move`] describes the whole transform.
    pub fn only_moves(&self) -> bool {
        self.resized_crop == 0.0 && self.jitter == 0.0
    }

    /// Samples the move of an image of this size. For transforms with moves only it is the same as in
    /// [`apply`](Self::apply).
    pub fn draw(&self, size: ImageSize, rng: &mut Rng) -> Move {
        let to = self.augment.draw(size, rng);
        Move { hole: self.hole(size, rng), ..to }
    }

    /// Transforms `image` `[H, W, C]`, bytes of the size `of`, into normalised values `[C, H, W]`.
    /// `moved` is a buffer for a second image. Only resized crops allow other sizes than the contract's.
    pub fn apply(
        &self,
        image: &[u8],
        of: ImageSize,
        contract: &InputContract,
        rng: &mut Rng,
        moved: &mut [u8],
        out: &mut [f32],
    ) {
        let (size, channels) = (contract.size(), contract.channels);
        if self.resized_crop > 0.0 {
            let cropped = resized_crop(image, of, contract, self.resized_crop, rng);
            let augment = Augment { crop: 0.0, ..self.augment };
            augment.draw(size, rng).apply(&cropped, size, channels, moved);
        } else {
            self.augment.draw(size, rng).apply(image, size, channels, moved);
        }
        if self.jitter > 0.0 {
            jitter(moved, channels, self.jitter, rng);
        }
        contract.normalise(moved, out);
        cut(out, size, self.hole(size, rng));
    }

    /// Samples a square with a side of `cutout` of the image's side, centred at a uniformly sampled pixel
    /// (DeVries and Taylor, 2017). A square over the border is smaller. An even side has one more pixel before
    /// the centre than after it.
    fn hole(&self, size: ImageSize, rng: &mut Rng) -> [[i32; 2]; 2] {
        if self.cutout == 0.0 {
            return [[0; 2]; 2];
        }
        let mut range = |length| cutout_range(rng.below(length), length, self.cutout).map(|at| at as i32);
        [range(size.height), range(size.width)]
    }
}

/// Returns start and end (exclusive) of a cutout along a side of `length` pixels.
fn cutout_range(centre: usize, length: usize, cutout: f64) -> [usize; 2] {
    let half = (length as f64 * cutout / 2.0).round() as usize;
    [centre.saturating_sub(half), (centre + half).min(length)]
}

/// Sets a hole in all channels of an image `[C, H, W]` to zero.
pub(super) fn cut(image: &mut [f32], size: ImageSize, hole: [[i32; 2]; 2]) {
    let [[top, bottom], [left, right]] = hole.map(|range| range.map(|at| at as usize));
    for plane in image.chunks_exact_mut(size.area()) {
        for row in plane.chunks_exact_mut(size.width).take(bottom).skip(top) {
            row[left..right].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::input::Resize;

    use super::*;

    fn contract(side: usize, channels: usize) -> InputContract {
        let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
        InputContract::new(ImageSize::square(side), channels, mean, std, Resize::Stretch)
    }

    /// Returns which pixels of an image of ones are zero after cutout.
    fn holes(side: usize, part: f64, seed: u64) -> Vec<bool> {
        let mut image = vec![1.0; 3 * side * side];
        let cutout = Transform { cutout: part, ..Transform::from(Augment { crop: 0.0, flip: false }) };
        let size = ImageSize::square(side);
        cut(&mut image, size, cutout.hole(size, &mut Rng::new(seed, "cutout")));
        let (first, rest) = image.split_at(side * side);
        assert!(rest.chunks(side * side).all(|plane| plane == first), "channels differ");
        first.iter().map(|x| *x == 0.0).collect()
    }

    #[test]
    fn cutout_is_a_square_cut_at_the_border() {
        let mut areas = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let holes = holes(32, 0.5, seed);
            let rows: Vec<usize> = (0..32).filter(|y| holes[y * 32..][..32].contains(&true)).collect();
            let columns: Vec<usize> = (0..32).filter(|x| (0..32).any(|y| holes[y * 32 + x])).collect();
            let area = holes.iter().filter(|hole| **hole).count();
            assert_eq!(area, rows.len() * columns.len(), "not a rectangle");
            assert!((8..=16).contains(&rows.len()) && (8..=16).contains(&columns.len()));
            areas.insert(area);
        }
        assert!(areas.contains(&256) && areas.len() > 20, "{areas:?}");
    }

    /// DARTS' `Cutout(16)` of 32 pixels: from 8 before the centre to 7 after it.
    #[test]
    fn cutout_lies_around_its_centre() {
        let holes = [0, 7, 8, 16, 24, 31].map(|centre| cutout_range(centre, 32, 0.5));
        assert_eq!(holes, [[0, 8], [0, 15], [0, 16], [8, 24], [16, 32], [23, 32]]);
        let mut image: Vec<f32> = (1..=24).map(|x| x as f32).collect();
        cut(&mut image, ImageSize { height: 3, width: 4 }, [[1, 3], [0, 2]]);
        let plane = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 7.0, 8.0, 0.0, 0.0, 11.0, 12.0];
        assert_eq!(image[..12], plane);
        assert_eq!(image[12..], plane.map(|x| if x == 0.0 { 0.0 } else { x + 12.0 }));
    }

    /// A pixel is erased if the centre is near enough: 16 of 32 rows in the middle, 8 in the corner.
    #[test]
    fn cutout_erases_pixels_with_the_expected_probability() {
        let mut counts = vec![0; 32 * 32];
        for seed in 0..4000 {
            holes(32, 0.5, seed)
                .iter()
                .zip(&mut counts)
                .for_each(|(hole, count)| *count += usize::from(*hole));
        }
        let part = |y: usize, x: usize| counts[y * 32 + x] as f64 / 4000.0;
        for (y, x, expected) in
            [(16, 16, 0.25), (0, 16, 9.0 / 32.0 * 0.5), (31, 16, 0.125), (0, 0, 81.0 / 1024.0)]
        {
            assert!((part(y, x) - expected).abs() < 0.025, "({y}, {x}): {} expected {expected}", part(y, x));
        }
    }

    #[test]
    fn an_empty_transform_only_normalises() {
        let contract = contract(4, 3);
        let image: Vec<u8> = (0..48).map(|i| (i * 5) as u8).collect();
        let (mut moved, mut found, mut expected) = (vec![0; 48], vec![0.0; 48], vec![0.0; 48]);
        let none = Transform::from(Augment { crop: 0.0, flip: false });
        none.apply(&image, ImageSize::square(4), &contract, &mut Rng::new(0, "x"), &mut moved, &mut found);
        contract.normalise(&image, &mut expected);
        assert_eq!(found, expected);
    }

    /// Erased pixels have the mean of the data instead of black, since cutout comes after normalisation.
    #[test]
    fn erased_pixels_are_zero_after_normalisation() {
        let contract = contract(8, 1);
        let (mut moved, mut out) = (vec![0; 64], vec![0.0; 64]);
        let cut = Transform { cutout: 0.5, ..Transform::from(Augment { crop: 0.0, flip: false }) };
        cut.apply(&[255; 64], ImageSize::square(8), &contract, &mut Rng::new(0, "x"), &mut moved, &mut out);
        let zeros = out.iter().filter(|x| **x == 0.0).count();
        assert!((4..=16).contains(&zeros) && out.iter().all(|x| *x == 0.0 || *x == 2.0), "{out:?}");
    }
}
