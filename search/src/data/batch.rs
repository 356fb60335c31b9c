//! Batch: images and labels of one step.

use std::borrow::Cow;

use candle_core::{Device, Tensor};
use milenas_models::input::{ImageSize, InputContract};

use super::Move;
use super::transform::cut;

/// Images and labels of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Images, one per label.
    pub images: BatchImages,
    /// Labels `[N]`.
    pub labels: Vec<u32>,
    /// Shape `[C, H, W]` of an image.
    pub shape: [usize; 3],
}

/// Images of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum BatchImages {
    /// Normalised values `[N, C, H, W]`.
    Numbers(Vec<f32>),
    /// Bytes for a device that moves and normalises the images itself.
    Bytes(ByteBatch),
}

impl From<Vec<f32>> for BatchImages {
    fn from(numbers: Vec<f32>) -> Self {
        BatchImages::Numbers(numbers)
    }
}

impl From<ByteBatch> for BatchImages {
    fn from(bytes: ByteBatch) -> Self {
        BatchImages::Bytes(bytes)
    }
}

impl Batch {
    /// Returns the normalised images `[N, C, H, W]`.
    pub fn numbers(&self) -> Cow<'_, [f32]> {
        match &self.images {
            BatchImages::Numbers(numbers) => numbers.into(),
            BatchImages::Bytes(bytes) => {
                let [channels, height, width] = self.shape;
                bytes.numbers(ImageSize { height, width }, channels).into()
            }
        }
    }

    /// Returns the normalised images as a tensor `[N, C, H, W]`.
    pub fn tensor(&self) -> candle_core::Result<Tensor> {
        let [c, h, w] = self.shape;
        Tensor::from_slice(&self.numbers(), (self.labels.len(), c, h, w), &Device::Cpu)
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Images as bytes, with their moves and the values of normalised bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteBatch {
    words: Vec<i32>,
    moves: Vec<Move>,
    levels: Vec<f32>,
}

impl ByteBatch {
    /// Creates a batch from images `[H, W, C]` of the contract's size, each with its move.
    pub fn new<'a>(images: impl Iterator<Item = (&'a [u8], Move)>, contract: &InputContract) -> ByteBatch {
        let (mut bytes, mut moves) = (Vec::new(), Vec::new());
        for (image, to) in images {
            bytes.extend_from_slice(image);
            moves.push(to);
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let words = bytes.as_chunks().0.iter().map(|four| i32::from_ne_bytes(*four)).collect();
        ByteBatch { words, moves, levels: contract.levels() }
    }

    /// Returns the images `[N, H, W, C]`, four bytes per element in native byte order. The last element is
    /// padded.
    pub fn words(&self) -> &[i32] {
        &self.words
    }

    /// Returns the move of each image.
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// Returns the normalised value of each byte, `[C][256]`.
    pub fn levels(&self) -> &[f32] {
        &self.levels
    }

    /// Returns the moved and normalised images `[N, C, H, W]`.
    fn numbers(&self, size: ImageSize, channels: usize) -> Vec<f32> {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let len = channels * size.area();
        let (mut moved, mut out) = (vec![0; len], Vec::with_capacity(self.moves.len() * len));
        for (image, to) in bytes.chunks_exact(len).zip(&self.moves) {
            to.apply(image, size, channels, &mut moved);
            let start = out.len();
            for (c, levels) in self.levels.chunks_exact(self.levels.len() / channels).enumerate() {
                out.extend(moved[c..].iter().step_by(channels).map(|byte| levels[usize::from(*byte)]));
            }
            cut(&mut out[start..], size, to.hole);
        }
        out
    }
}
