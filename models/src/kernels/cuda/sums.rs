//! Sums of feature maps, and multiplication of each image by a factor, as for drop path.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Computes `y = x`, or `y += x` if `add`.
pub fn accumulate(device: &mut dyn Device, x: Words, y: Words, count: usize, add: bool) -> Result<()> {
    let args = [x.holds(count)?, y.written(count)?, int(count), Arg::Int(i32::from(add))];
    launch(device, "accumulate", LaunchGrid::Each(count), &args)
}

/// Multiplies every image of a feature map `[channel][image][pixel]` by its factor, `[image]`.
pub fn weigh(
    device: &mut dyn Device,
    x: Words,
    factors: Words,
    channels: usize,
    batch: usize,
    pixels: usize,
) -> Result<()> {
    let count = channels * batch * pixels;
    let args = [x.written(count)?, factors.holds(batch)?, int(channels), int(batch), int(pixels)];
    launch(device, "weigh", LaunchGrid::Each(count), &args)
}
