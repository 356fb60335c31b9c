//! The two ends of a network.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Values of a byte, for each of which a channel has a level.
pub const LEVELS: usize = 256;

/// Integers that tell where an image goes.
pub const MOVE: usize = 7;

/// Images as bytes, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct ByteImages {
    /// `[image][row][column][channel]`, four bytes a word; the last word is filled up.
    pub words: Words,
    /// Integers, seven an image: by how many rows and columns its top left corner lies above and to the left of that of the crop,
    /// whether the crop is mirrored left to right then, and the first row of its hole, the row past it, and the same of columns.
    pub moves: Words,
    /// What each byte becomes, `[channel][256]`.
    pub levels: Words,
}

/// Images `[image][channel][row][column]` moved, with the level of byte 0 where there is none of them, and zero in its hole.
pub fn augment(
    device: &mut dyn Device,
    bytes: &ByteImages,
    out: Words,
    [batch, channels, rows, columns]: [usize; 4],
) -> Result<()> {
    let count = batch * channels * rows * columns;
    let args = [
        bytes.words.holds(count.div_ceil(4))?,
        bytes.moves.holds(MOVE * batch)?,
        bytes.levels.holds(LEVELS * channels)?,
        out.written(count)?,
        int(batch),
        int(channels),
        int(rows),
        int(columns),
    ];
    launch(device, "augment", LaunchGrid::Each(count), &args)
}

/// The 3x3 surroundings, zero outside, of each pixel of images `[image][channel][row][column]`: `[channel][tap][image][row][column]`.
pub fn patches(
    device: &mut dyn Device,
    images: Words,
    out: Words,
    [batch, channels, rows, columns]: [usize; 4],
) -> Result<()> {
    let count = batch * channels * rows * columns;
    let args =
        [images.holds(count)?, out.written(9 * count)?, int(batch), int(channels), int(rows), int(columns)];
    launch(device, "patches", LaunchGrid::Each(9 * count), &args)
}

/// The sum of each row of `length` values, times a factor.
pub fn row_sums(
    device: &mut dyn Device,
    x: Words,
    y: Words,
    [rows, length]: [usize; 2],
    factor: f32,
) -> Result<()> {
    let args = [x.holds(rows * length)?, y.written(rows)?, int(rows), int(length), Arg::Float(factor)];
    launch(device, "row_sums", LaunchGrid::Rows(rows), &args)
}

/// Each row's value times a factor, `length` times; added to `y` where `add`.
pub fn spread(
    device: &mut dyn Device,
    x: Words,
    y: Words,
    [rows, length]: [usize; 2],
    factor: f32,
    add: bool,
) -> Result<()> {
    let [factor, add] = [Arg::Float(factor), Arg::Int(i32::from(add))];
    let args = [x.holds(rows)?, y.written(rows * length)?, int(rows), int(length), factor, add];
    launch(device, "spread", LaunchGrid::Each(rows * length), &args)
}

/// What a loss reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// `[class][image]`, without the bias, which is added to them.
    pub logits: Words,
    /// `[class]`
    pub bias: Words,
    /// Integers `[image]`, each the number of a class.
    pub labels: Words,
    /// The cross-entropy of each image.
    pub loss: Words,
    /// 1 for each image whose label has the first of the largest logits, else 0.
    pub right: Words,
    /// That of the mean loss, times the weight, by the logits, `[class][image]`.
    pub gradient: Words,
    /// The part of a label that is spread over all classes.
    pub smoothing: f32,
    /// By what the gradient is multiplied.
    pub weight: f32,
}

/// The cross-entropy of a batch, and its gradient.
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
