//! Windows of any size that slide over maps: convolutions that there is no kernel for become products of what these see.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Windows over maps `[channel][image][row][column]`. Pairs are rows, columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Windows {
    pub channels: usize,
    /// Images.
    pub batch: usize,
    pub input: [usize; 2],
    /// How many windows there are.
    pub output: [usize; 2],
    /// Pixels that a window sees.
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// How far outside the map the first window begins; negative for inside.
    pub before: [i32; 2],
}

impl Windows {
    /// Words of a map of the channels.
    pub(super) fn map(&self, [rows, columns]: [usize; 2]) -> usize {
        self.channels * self.batch * rows * columns
    }

    /// Words of what all windows see.
    pub fn seen(&self) -> usize {
        self.map(self.output) * self.kernel[0] * self.kernel[1]
    }

    fn sizes(&self) -> Vec<Arg> {
        let sizes =
            [[self.channels, self.batch], self.input, self.output, self.kernel, self.stride, self.dilation];
        sizes.as_flattened().iter().copied().map(int).chain(self.before.map(Arg::Int)).collect()
    }

    /// What each window sees, zeros outside the map: `y` `[channel][tap][image][row][column]`. `x` is `[image][channel][row][column]`
    /// where `by_image`.
    pub fn forward(&self, device: &mut dyn Device, x: Words, y: Words, by_image: bool) -> Result<()> {
        let args = [x.holds(self.map(self.input))?, y.written(self.seen())?, Arg::Int(i32::from(by_image))];
        launch(device, "windows_forward", LaunchGrid::Each(self.seen()), &[&args[..], &self.sizes()].concat())
    }

    /// Adds to the gradient of x, `[channel][image][row][column]`.
    pub fn backward(&self, device: &mut dyn Device, dy: Words, dx: Words) -> Result<()> {
        let count = self.map(self.input);
        let args = [dy.holds(self.seen())?, dx.written(count)?];
        launch(device, "windows_backward", LaunchGrid::Each(count), &[&args[..], &self.sizes()].concat())
    }

    /// The mean of the pixels that each window sees; it must see one.
    pub fn means(&self, device: &mut dyn Device, x: Words, y: Words) -> Result<()> {
        let [inputs, outputs] = [self.input, self.output].map(|size| self.map(size));
        let args = [x.holds(inputs)?, y.written(outputs)?];
        launch(device, "means_forward", LaunchGrid::Each(outputs), &[&args[..], &self.sizes()].concat())
    }

    /// Adds to the gradient of x.
    pub fn means_back(&self, device: &mut dyn Device, dy: Words, dx: Words) -> Result<()> {
        let [inputs, outputs] = [self.input, self.output].map(|size| self.map(size));
        let args = [dy.holds(outputs)?, dx.written(inputs)?];
        launch(device, "means_backward", LaunchGrid::Each(inputs), &[&args[..], &self.sizes()].concat())
    }
}
