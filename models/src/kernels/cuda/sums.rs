//! Maps added up, and images of a map weighed, as drop path does.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// `y = x`, or `y += x` where `add`.
pub fn accumulate(device: &mut dyn Device, x: Words, y: Words, count: usize, add: bool) -> Result<()> {
    let args = [x.holds(count)?, y.written(count)?, int(count), Arg::Int(i32::from(add))];
    launch(device, "accumulate", LaunchGrid::Each(count), &args)
}

/// Multiplies every image of a map `[channel][image][pixel]` by its factor, `[image]`.
pub fn weigh(
    device: &mut dyn Device,
    x: Words,
    factors: Words,
    [channels, batch, pixels]: [usize; 3],
) -> Result<()> {
    let count = channels * batch * pixels;
    let args = [x.written(count)?, factors.holds(batch)?, int(channels), int(batch), int(pixels)];
    launch(device, "weigh", LaunchGrid::Each(count), &args)
}
