//! The stem and the head of a network.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Number of byte values. Each channel has a level per byte value.
pub const LEVELS: usize = 256;

/// Number of integers that describe how an image is moved.
pub const MOVE: usize = 7;

/// Images as bytes, and their augmentation.
#[derive(Clone, Copy, Debug)]
pub struct ByteImages {
    /// The bytes `[image][row][column][channel]`, four per element; the last element is padded.
    pub words: Words,
    /// Seven integers per image:
    /// - the numbers of rows and of columns by which its top left corner is above and to the left of the crop,
    /// - whether the crop is then mirrored left to right,
    /// - the first row of the hole and the row after it, and the same for columns.
    pub moves: Words,
    /// Value of each byte, `[channel][256]`.
    pub levels: Words,
}

/// Sizes of a batch of images.
#[derive(Clone, Copy, Debug)]
pub struct BatchDims {
    /// Number of images.
    pub batch: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub rows: usize,
    /// Columns of an image.
    pub columns: usize,
}

impl BatchDims {
    /// Number of elements of all images.
    fn count(self) -> usize {
        self.batch * self.channels * self.rows * self.columns
    }

    fn sizes(self) -> [Arg; 4] {
        [self.batch, self.channels, self.rows, self.columns].map(int)
    }
}

/// Augments images, to `[image][channel][row][column]`. Pixels outside an image have the level of byte 0, and pixels
/// in the hole are zero.
pub fn augment(device: &mut dyn Device, bytes: &ByteImages, out: Words, dims: BatchDims) -> Result<()> {
    let (count, [batch, channels, rows, columns]) = (dims.count(), dims.sizes());
    let args = [
        bytes.words.holds(count.div_ceil(4))?,
        bytes.moves.holds(MOVE * dims.batch)?,
        bytes.levels.holds(LEVELS * dims.channels)?,
        out.written(count)?,
        batch,
        channels,
        rows,
        columns,
    ];
    launch(device, "augment", LaunchGrid::Each(count), &args)
}

/// Copies the 3x3 neighbourhood of each pixel of images `[image][channel][row][column]`, zero outside, to
/// `[channel][tap][image][row][column]`.
pub fn patches(device: &mut dyn Device, images: Words, out: Words, dims: BatchDims) -> Result<()> {
    let (count, [batch, channels, rows, columns]) = (dims.count(), dims.sizes());
    let args = [images.holds(count)?, out.written(9 * count)?, batch, channels, rows, columns];
    launch(device, "patches", LaunchGrid::Each(9 * count), &args)
}

/// Computes the sum of each row of `length` values, times a factor.
pub fn row_sums(
    device: &mut dyn Device,
    x: Words,
    y: Words,
    rows: usize,
    length: usize,
    factor: f32,
) -> Result<()> {
    let args = [x.holds(rows * length)?, y.written(rows)?, int(rows), int(length), Arg::Float(factor)];
    launch(device, "row_sums", LaunchGrid::Rows(rows), &args)
}

/// Writes each row's value times a factor `length` times, or adds it to `y` if `add`.
pub fn spread(
    device: &mut dyn Device,
    x: Words,
    y: Words,
    rows: usize,
    length: usize,
    factor: f32,
    add: bool,
) -> Result<()> {
    let [factor, add] = [Arg::Float(factor), Arg::Int(i32::from(add))];
    let args = [x.holds(rows)?, y.written(rows * length)?, int(rows), int(length), factor, add];
    launch(device, "spread", LaunchGrid::Each(rows * length), &args)
}

/// Inputs and outputs of a loss.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Logits `[class][image]` without the bias, which the kernel adds to them.
    pub logits: Words,
    /// Bias, `[class]`.
    pub bias: Words,
    /// Index of the class of each image, `[image]` integers.
    pub labels: Words,
    /// Cross-entropy of each image.
    pub loss: Words,
    /// 1 for each image whose label is the first of the largest logits, else 0.
    pub right: Words,
    /// Gradient of the mean loss times `weight` with respect to the logits, `[class][image]`.
    pub gradient: Words,
    /// Label smoothing: the part of a label that is distributed over all classes.
    pub smoothing: f32,
    /// Factor of the gradient.
    pub weight: f32,
}

/// Computes the cross-entropy of a batch, and its gradient.
pub fn cross_entropy(device: &mut dyn Device, loss: &Loss, classes: usize, batch: usize) -> Result<()> {
    let args = [
        loss.logits.written(classes * batch)?,
        loss.bias.holds(classes)?,
        loss.labels.holds(batch)?,
        loss.loss.written(batch)?,
        loss.right.written(batch)?,
        loss.gradient.written(classes * batch)?,
        int(classes),
        int(batch),
        Arg::Float(loss.smoothing),
        Arg::Float(loss.weight),
    ];
    launch(device, "cross_entropy", LaunchGrid::Each(batch), &args)
}
