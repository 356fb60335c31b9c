//! 3x3 pooling with one pixel of padding.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Pixels of a strip; the same as in `pool.cu`.
const STRIP: usize = 4;

/// Sizes of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Channels times images.
    pub planes: usize,
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Rows and columns of the output, `ceil(input / stride)`.
    pub output: [usize; 2],
    /// Stride, 1 or 2.
    pub stride: usize,
}

impl Pool {
    fn counts(&self) -> [usize; 2] {
        [self.input, self.output].map(|[rows, columns]| self.planes * rows * columns)
    }

    fn sizes(&self) -> [Arg; 6] {
        let [[rows, columns], [out_rows, out_columns]] = [self.input.map(int), self.output.map(int)];
        [int(self.planes), rows, columns, out_rows, out_columns, int(self.stride)]
    }

    /// Returns the number of threads for feature maps of this size: one per strip if `strips`, else one per pixel.
    fn grid(&self, size: [usize; 2], strips: bool) -> LaunchGrid {
        let [rows, columns] = size;
        LaunchGrid::Each(self.planes * if strips { rows.div_ceil(STRIP) } else { rows } * columns)
    }

    /// Computes the maxima with their tap indices (integers), and the means. Empty outputs are not computed.
    pub fn forward(
        &self,
        device: &mut dyn Device,
        x: Words,
        most: Words,
        taps: Words,
        means: Words,
    ) -> Result<()> {
        let [inputs, outputs] = self.counts();
        let args = [
            x.holds(inputs)?,
            most.may_be_written(outputs)?,
            taps.may_be_written(outputs)?,
            means.may_be_written(outputs)?,
        ];
        let args = [&args[..], &self.sizes()].concat();
        launch(device, "pools_forward", self.grid(self.output, true), &args)
    }

    /// Adds to the gradient of the input, from the gradients of the maxima and of the means. Either may be empty.
    pub fn backward(
        &self,
        device: &mut dyn Device,
        d_most: Words,
        taps: Words,
        d_means: Words,
        dx: Words,
    ) -> Result<()> {
        if d_most.is_empty() && d_means.is_empty() {
            return Ok(());
        }
        let [inputs, outputs] = self.counts();
        let args = [
            d_most.may_hold(outputs)?,
            taps.may_hold(outputs)?,
            d_means.may_hold(outputs)?,
            dx.written(inputs)?,
        ];
        let args = [&args[..], &self.sizes()].concat();
        launch(device, "pools_backward", self.grid(self.input, self.stride == 1), &args)
    }
}
