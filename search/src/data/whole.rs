//! Training images at the larger size that resized crops start from.

use milenas_models::Result;
use milenas_models::input::{Image, ImageSize, InputContract, Resize};

/// Whole image, without a central crop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Pixels `[H, W, C]`.
    pub pixels: Vec<u8>,
    /// Height and width.
    pub size: ImageSize,
}

impl Whole {
    /// Converts `image` to the channels of a contract, over its background, and reduces it to a shorter side of
    /// `side` pixels. Smaller images keep their size, since crops are resized anyway.
    ///
    /// # Errors
    /// Fails if the image cannot be resized.
    pub fn new(image: &Image, contract: &InputContract, side: usize) -> Result<Whole> {
        let shorter = image.width().min(image.height());
        let brought = |length: usize| if shorter > side { length * side / shorter } else { length };
        let [height, width] = [image.height(), image.width()].map(brought);
        let contract = InputContract { height, width, resize: Resize::Stretch, ..contract.clone() };
        Ok(Whole { pixels: contract.prepare(image)?, size: contract.size() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The left third is dark, the rest is light.
    fn image(width: usize, height: usize) -> Image {
        let rgb = (0..width * height).flat_map(|i| [if i % width < width / 3 { 30 } else { 210 }; 3]);
        Image::new(width, height, rgb.collect(), None).unwrap()
    }

    fn contract(channels: usize) -> InputContract {
        InputContract::new(
            ImageSize::square(4),
            channels,
            vec![0.0; channels],
            vec![1.0; channels],
            Resize::ShorterSide { side: 6 },
        )
    }

    #[test]
    fn large_images_keep_their_shape_and_small_ones_their_size() {
        for channels in [1, 3] {
            for ([from_width, from_height], [height, width]) in [
                ([90, 60], [6, 9]),
                ([60, 90], [9, 6]),
                ([61, 20], [6, 18]),
                ([12, 6], [6, 12]),
                ([9, 3], [3, 9]),
            ] {
                let whole = Whole::new(&image(from_width, from_height), &contract(channels), 6).unwrap();
                assert_eq!(whole.size, ImageSize { height, width }, "{from_width}x{from_height}");
                assert_eq!(whole.pixels.len(), height * width * channels);
                // The first column is outside of the central crop.
                assert!(whole.pixels.chunks_exact(width * channels).all(|row| row[0] == 30));
                assert!(whole.pixels.chunks_exact(width * channels).all(|row| row.ends_with(&[210])));
            }
        }
    }
}
