//! Depthwise convolutions of a rectified map.

use super::device::{Arg, Device, Grid, Words, device_error, int, launch};
use crate::Result;

/// Sizes of convolutions that keep the image at stride 1. A slot is one convolution of all channels.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise {
    /// 3 or 5.
    pub kernel: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Pixels from tap to tap.
    pub dilation: usize,
    /// How many.
    pub slots: usize,
    /// Of each.
    pub channels: usize,
    /// Images.
    pub batch: usize,
    /// Rows, columns; so is the other.
    pub input: [usize; 2],
    /// `ceil(input / stride)`
    pub output: [usize; 2],
}

/// What slots read; they see its positive part.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// One map for all, `[channel][image][row][column]`.
    Shared(Words),
    /// A map each, `[slot][channel][image][row][column]`, times a scale and plus a shift, both `[slot][channel]`.
    Scaled(Words, [Words; 2]),
}

impl Depthwise {
    /// Words of the weights `[slot][channel][row][column]`.
    pub fn weights(&self) -> usize {
        self.slots * self.channels * self.kernel * self.kernel
    }

    fn planes(&self) -> usize {
        self.slots * self.channels * self.batch
    }

    fn outputs(&self) -> usize {
        self.planes() * self.output[0] * self.output[1]
    }

    fn inputs(&self, x: Input) -> usize {
        let planes = if let Input::Shared(_) = x { self.channels * self.batch } else { self.planes() };
        planes * self.input[0] * self.input[1]
    }

    /// The kernel by its size, of the names for 3 and 5; the arguments for an input; the sizes.
    fn arguments(&self, names: [&'static str; 2], x: Input) -> Result<(&'static str, [Arg; 3], [Arg; 10])> {
        let name = match self.kernel {
            3 => names[0],
            5 => names[1],
            other => return Err(device_error(names[0], format!("kernels of {other}, expected 3 or 5"))),
        };
        let factors = self.slots * self.channels;
        let (x, shared) = match x {
            Input::Shared(values) => {
                ([values.holds(self.inputs(x))?, Arg::Words(Words::NONE), Arg::Words(Words::NONE)], 1)
            }
            Input::Scaled(values, [scale, shift]) => {
                ([values.holds(self.inputs(x))?, scale.holds(factors)?, shift.holds(factors)?], 0)
            }
        };
        let [rows, columns] = self.input.map(int);
        let [out_rows, out_columns] = self.output.map(int);
        let sizes = [
            Arg::Int(shared),
            int(self.slots),
            int(self.channels),
            int(self.batch),
            rows,
            columns,
            out_rows,
            out_columns,
            int(self.stride),
            int(self.dilation),
        ];
        Ok((name, x, sizes))
    }

    /// `y` `[slot][channel][image][row][column]`.
    pub fn forward(&self, device: &mut dyn Device, x: Input, w: Words, y: Words) -> Result<()> {
        let (name, x, sizes) = self.arguments(["depthwise_forward_3", "depthwise_forward_5"], x)?;
        let (w, y) = (w.holds(self.weights())?, y.holds(self.outputs())?);
        launch(device, name, Grid::Each(self.outputs()), &[&x[..], &[w, y], &sizes].concat())
    }

    /// The gradient of what is rectified; for a shared input it is added to `dx`.
    pub fn input_gradient(
        &self,
        device: &mut dyn Device,
        x: Input,
        w: Words,
        dy: Words,
        dx: Words,
    ) -> Result<()> {
        let count = self.inputs(x);
        let (name, x, sizes) = self.arguments(["depthwise_input_3", "depthwise_input_5"], x)?;
        let rest = [w.holds(self.weights())?, dy.holds(self.outputs())?, dx.holds(count)?];
        launch(device, name, Grid::Each(count), &[&x[..], &rest, &sizes].concat())
    }

    /// The gradient of the weights.
    pub fn weight_gradient(&self, device: &mut dyn Device, x: Input, dy: Words, dw: Words) -> Result<()> {
        let (name, x, sizes) = self.arguments(["depthwise_weight_3", "depthwise_weight_5"], x)?;
        let rest = [dy.holds(self.outputs())?, dw.holds(self.weights())?];
        launch(device, name, Grid::Rows(self.slots * self.channels), &[&x[..], &rest, &sizes].concat())
    }
}
