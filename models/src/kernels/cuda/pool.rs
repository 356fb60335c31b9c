//! Pools of 3x3 windows with one pixel of padding.

use super::device::{Arg, Device, Grid, Words, int, launch};
use crate::Result;

/// Sizes of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Channels times images.
    pub planes: usize,
    /// Rows, columns; so is the other.
    pub input: [usize; 2],
    /// `ceil(input / stride)`
    pub output: [usize; 2],
    /// 1 or 2.
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

    /// Largest values, and where in its window each was: integers, as many.
    pub fn max(&self, device: &mut dyn Device, x: Words, y: Words, taps: Words) -> Result<()> {
        let [inputs, outputs] = self.counts();
        let args = [x.holds(inputs)?, y.holds(outputs)?, taps.holds(outputs)?];
        launch(device, "max_pool_forward", Grid::Each(outputs), &[&args[..], &self.sizes()].concat())
    }

    /// Adds to the gradient of the input.
    pub fn max_gradient(&self, device: &mut dyn Device, dy: Words, taps: Words, dx: Words) -> Result<()> {
        let [inputs, outputs] = self.counts();
        let args = [dy.holds(outputs)?, taps.holds(outputs)?, dx.holds(inputs)?];
        launch(device, "max_pool_backward", Grid::Each(inputs), &[&args[..], &self.sizes()].concat())
    }

    /// Means over the pixels that there are.
    pub fn average(&self, device: &mut dyn Device, x: Words, y: Words) -> Result<()> {
        let [inputs, outputs] = self.counts();
        let args = [x.holds(inputs)?, y.holds(outputs)?];
        launch(device, "average_pool_forward", Grid::Each(outputs), &[&args[..], &self.sizes()].concat())
    }

    /// Adds to the gradient of the input.
    pub fn average_gradient(&self, device: &mut dyn Device, dy: Words, dx: Words) -> Result<()> {
        let [inputs, outputs] = self.counts();
        let args = [dy.holds(outputs)?, dx.holds(inputs)?];
        launch(device, "average_pool_backward", Grid::Each(inputs), &[&args[..], &self.sizes()].concat())
    }
}
