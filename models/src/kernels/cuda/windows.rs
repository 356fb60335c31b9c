//! Windows of any size that slide over feature maps. A convolution without a kernel becomes a product with their
//! values (im2col).

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Windows over feature maps `[channel][image][row][column]`. Pairs are rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    /// Number of channels.
    pub channels: usize,
    /// Number of images.
    pub batch: usize,
    /// Size of the input, in pixels.
    pub input: [usize; 2],
    /// Number of windows.
    pub output: [usize; 2],
    /// Size of a window, in taps.
    pub kernel: [usize; 2],
    /// Distance between neighbouring windows, in pixels.
    pub stride: [usize; 2],
    /// Distance between neighbouring taps, in pixels.
    pub dilation: [usize; 2],
    /// Distance by which the first window begins outside the feature map; negative if it begins inside.
    pub before: [i32; 2],
}

impl Windows {
    /// Number of elements of a feature map of the given rows and columns.
    pub(super) fn map(&self, size: [usize; 2]) -> usize {
        self.channels * self.batch * size[0] * size[1]
    }

    /// Number of elements of all windows.
    pub fn seen(&self) -> usize {
        self.map(self.output) * self.kernel[0] * self.kernel[1]
    }

    fn sizes(&self) -> Vec<Arg> {
        let sizes =
            [[self.channels, self.batch], self.input, self.output, self.kernel, self.stride, self.dilation];
        sizes.as_flattened().iter().copied().map(int).chain(self.before.map(Arg::Int)).collect()
    }

    /// Writes the values of each window, with zeros outside the feature map: `y`
    /// `[channel][tap][image][row][column]`. If `by_image`, `x` is `[image][channel][row][column]`.
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

    /// Computes the mean of the pixels of each window, which must have at least one.
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
