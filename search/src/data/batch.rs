//! Images and labels of one step.

use std::borrow::Cow;

use candle_core::{Device, Tensor};
use milenas_models::input::InputContract;

use super::Move;
use super::transform::cut;

/// Images and labels of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// As many as labels.
    pub images: BatchImages,
    /// `[N]`
    pub labels: Vec<u32>,
    /// `[C, H, W]`
    pub shape: [usize; 3],
}

/// The images of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum BatchImages {
    /// `[N, C, H, W]`, normalised.
    Numbers(Vec<f32>),
    /// For a device that moves and normalises them itself.
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
    /// The images `[N, C, H, W]`, normalised.
    pub fn numbers(&self) -> Cow<'_, [f32]> {
        match &self.images {
            BatchImages::Numbers(numbers) => numbers.into(),
            BatchImages::Bytes(bytes) => bytes.numbers(self.shape).into(),
        }
    }

    /// The images as a tensor `[N, C, H, W]`.
    pub fn tensor(&self) -> candle_core::Result<Tensor> {
        let [c, h, w] = self.shape;
        Tensor::from_slice(&self.numbers(), (self.labels.len(), c, h, w), &Device::Cpu)
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Images as they lie in memory, and what becomes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteBatch {
    words: Vec<i32>,
    moves: Vec<Move>,
    levels: Vec<f32>,
}

impl ByteBatch {
    /// Of images `[H, W, C]` of the contract's size, each with its move.
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

    /// The images, `[N, H, W, C]`, four bytes a word in the machine's order; the last word is filled up.
    pub fn words(&self) -> &[i32] {
        &self.words
    }

    /// Where each image goes.
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// What each byte becomes when it is normalised, `[C][256]`.
    pub fn levels(&self) -> &[f32] {
        &self.levels
    }

    /// Moved and normalised, `[N, C, H, W]`.
    fn numbers(&self, [channels, height, width]: [usize; 3]) -> Vec<f32> {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let size = channels * height * width;
        let (mut moved, mut out) = (vec![0; size], Vec::with_capacity(self.moves.len() * size));
        for (image, to) in bytes.chunks_exact(size).zip(&self.moves) {
            to.apply(image, [height, width, channels], &mut moved);
            let start = out.len();
            for (c, levels) in self.levels.chunks_exact(self.levels.len() / channels).enumerate() {
                out.extend(moved[c..].iter().step_by(channels).map(|byte| levels[usize::from(*byte)]));
            }
            cut(&mut out[start..], [height, width], to.hole);
        }
        out
    }
}
