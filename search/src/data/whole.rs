//! Training pictures as large as resized crops want them.

use milenas_models::Result;
use milenas_models::input::{Image, InputContract, Resize};

/// All of a picture, at a size of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// `[H, W, C]` bytes.
    pub pixels: Vec<u8>,
    /// Rows and columns.
    pub size: [usize; 2],
}

impl Whole {
    /// `image` in the channels of a contract and over its background, brought down to a shorter side of `side` pixels; smaller ones
    /// stay as they are, as a crop is resized anyway.
    ///
    /// # Errors
    /// A picture that cannot be resized.
    pub fn new(image: &Image, contract: &InputContract, side: usize) -> Result<Whole> {
        let shorter = image.width().min(image.height());
        let brought = |length: usize| if shorter > side { length * side / shorter } else { length };
        let [height, width] = [image.height(), image.width()].map(brought);
        let contract = InputContract { height, width, resize: Resize::Stretch, ..contract.clone() };
        Ok(Whole { pixels: contract.prepare(image)?, size: [height, width] })
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
            [channels, 4, 4],
            vec![0.0; channels],
            vec![1.0; channels],
            Resize::ShorterSide { side: 6 },
        )
    }

    #[test]
    fn large_pictures_keep_their_shape_and_small_ones_their_size() {
        for channels in [1, 3] {
            for ([width, height], size) in [
                ([90, 60], [6, 9]),
                ([60, 90], [9, 6]),
                ([61, 20], [6, 18]),
                ([12, 6], [6, 12]),
                ([9, 3], [3, 9]),
            ] {
                let whole = Whole::new(&image(width, height), &contract(channels), 6).unwrap();
                assert_eq!(whole.size, size, "{width}x{height}");
                assert_eq!(whole.pixels.len(), size[0] * size[1] * channels);
                // The first column is not in the centre that the network sees.
                assert!(whole.pixels.chunks_exact(size[1] * channels).all(|row| row[0] == 30));
                assert!(whole.pixels.chunks_exact(size[1] * channels).all(|row| row.ends_with(&[210])));
            }
        }
    }
}
