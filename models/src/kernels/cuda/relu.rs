//! ReLU without a convolution, and FactorizedReduce, which reads every other pixel after ReLU.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Computes `y = max(0, x)`.
pub fn forward(device: &mut dyn Device, x: Words, y: Words, count: usize) -> Result<()> {
    launch(device, "relu_forward", LaunchGrid::Each(count), &[x.holds(count)?, y.written(count)?, int(count)])
}

/// Computes the gradient of x from that of y, and adds it to `dx` if `add`. Without `add`, `dx` may be `dy`.
pub fn backward(
    device: &mut dyn Device,
    y: Words,
    dy: Words,
    dx: Words,
    count: usize,
    add: bool,
) -> Result<()> {
    let args = [y.holds(count)?, dy.holds(count)?, dx.written(count)?, int(count), Arg::Int(i32::from(add))];
    launch(device, "relu_backward", LaunchGrid::Each(count), &args)
}

/// Sizes of a feature map that is halved; it has at least two rows and two columns.
#[derive(Clone, Copy, Debug)]
pub struct Halve {
    /// Channels times images.
    pub planes: usize,
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Rows and columns of the output, `ceil(input / 2)`.
    pub output: [usize; 2],
}

impl Halve {
    fn counts(&self) -> [usize; 2] {
        [self.input, self.output].map(|[rows, columns]| self.planes * rows * columns)
    }

    fn sizes(&self) -> [Arg; 5] {
        let [[rows, columns], [out_rows, out_columns]] = [self.input.map(int), self.output.map(int)];
        [int(self.planes), rows, columns, out_rows, out_columns]
    }

    /// Computes, after ReLU, the pixels of even row and column, then the pixels one row and one column further: `y`
    /// `[2][plane][row][column]`.
    pub fn forward(&self, device: &mut dyn Device, x: Words, y: Words) -> Result<()> {
        let [inputs, outputs] = self.counts();
        let args = [x.holds(inputs)?, y.written(2 * outputs)?];
        launch(device, "halve_forward", LaunchGrid::Each(2 * outputs), &[&args[..], &self.sizes()].concat())
    }

    /// Adds to the gradient of x.
    pub fn backward(&self, device: &mut dyn Device, x: Words, dy: Words, dx: Words) -> Result<()> {
        let [inputs, outputs] = self.counts();
        let args = [x.holds(inputs)?, dy.holds(2 * outputs)?, dx.written(inputs)?];
        launch(device, "halve_backward", LaunchGrid::Each(inputs), &[&args[..], &self.sizes()].concat())
    }
}
