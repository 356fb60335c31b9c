//! Depthwise convolutions of a rectified map.

use super::device::{Arg, Device, Grid, LEAST, Words, device_error, in_parts, int, launch, parts};
use crate::Result;

/// The side of a tile, the pixels of a strip, and the most words of a tile's surroundings; as in `tiles.cu`.
const SIDE: usize = 32;
const STRIP: usize = 4;
const KEPT: usize = 25 * 257;

/// The fewest tiles that are worth a block with sums of its own for the weights.
const TILES: usize = 4;

/// Sizes of convolutions that keep the image at stride 1. A slot is one convolution of all channels.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise {
    /// 3 or 5.
    pub kernel: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Pixels from tap to tap; 1 or 2.
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

/// A kernel, its sizes, and tiles of a channel.
type Launch = (&'static str, Vec<Arg>, Option<usize>);

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

    /// Images of a tile at stride 1.
    fn images(&self) -> usize {
        let [rows, columns] = self.output.map(|n| n.min(SIDE));
        let around = self.dilation * (self.kernel - 1);
        let surroundings = (rows.next_multiple_of(STRIP) + around) * (columns + around);
        let images = (SIDE * SIDE / (rows * columns).max(1)).min(KEPT / surroundings);
        images.min(self.batch).max(1)
    }

    /// The arguments for an input.
    fn input(&self, x: Input) -> Result<[Arg; 3]> {
        let factors = self.slots * self.channels;
        let none = Arg::Words(Words::NONE);
        Ok(match x {
            Input::Shared(values) => [values.holds(self.inputs(x))?, none, none],
            Input::Scaled(values, [scale, shift]) => {
                [values.holds(self.inputs(x))?, scale.holds(factors)?, shift.holds(factors)?]
            }
        })
    }

    /// The kernel for these sizes, of the names for 3 and 5 at stride 2, or at stride 1 by dilation; the sizes that it takes; at
    /// stride 1, tiles of a channel.
    ///
    /// # Errors
    /// Sizes that there is no kernel for.
    fn kernel(&self, strided: [&'static str; 2], tiled: [[&'static str; 2]; 2], x: Input) -> Result<Launch> {
        let Depthwise { kernel, stride, dilation, .. } = *self;
        let kind = match kernel {
            3 => 0,
            5 => 1,
            other => return Err(device_error(strided[0], format!("kernels of {other}, expected 3 or 5"))),
        };
        if ![1, 2].contains(&dilation)
            || ![1, 2].contains(&stride)
            || stride == 1 && self.input != self.output
        {
            let problem =
                "expected dilation and stride of 1 or 2, and at stride 1 an output of the input's size";
            return Err(device_error(strided[kind], format!("{problem}, found {self:?}")));
        }
        let shared = Arg::Int(i32::from(matches!(x, Input::Shared(_))));
        let [rows, columns] = self.input.map(int);
        let mut sizes = vec![shared, int(self.slots), int(self.channels), int(self.batch), rows, columns];
        if stride == 1 {
            let images = self.images();
            let squares = self.output.iter().map(|n| n.div_ceil(SIDE)).product::<usize>();
            sizes.push(int(images));
            return Ok((tiled[kind][dilation - 1], sizes, Some(self.batch.div_ceil(images) * squares)));
        }
        sizes.extend(self.output.map(int));
        sizes.push(int(dilation));
        Ok((strided[kind], sizes, None))
    }

    /// `y` `[slot][channel][image][row][column]`.
    pub fn forward(&self, device: &mut dyn Device, x: Input, w: Words, y: Words) -> Result<()> {
        let strided = ["depthwise_forward_3", "depthwise_forward_5"];
        let tiled = [["tile_forward_3_1", "tile_forward_3_2"], ["tile_forward_5_1", "tile_forward_5_2"]];
        let (name, sizes, tiles) = self.kernel(strided, tiled, x)?;
        let rest = [w.holds(self.weights())?, y.holds(self.outputs())?];
        let grid = match tiles {
            Some(tiles) => Grid::Rows(self.slots * self.channels * tiles),
            None => Grid::Each(self.outputs()),
        };
        launch(device, name, grid, &[&self.input(x)?[..], &rest, &sizes].concat())
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
        let strided = ["depthwise_input_3", "depthwise_input_5"];
        let tiled = [["tile_input_3_1", "tile_input_3_2"], ["tile_input_5_1", "tile_input_5_2"]];
        let (name, sizes, tiles) = self.kernel(strided, tiled, x)?;
        let count = self.inputs(x);
        let rest = [w.holds(self.weights())?, dy.holds(self.outputs())?, dx.holds(count)?];
        let maps = if let Input::Shared(_) = x { self.slots.min(1) } else { self.slots };
        let grid = match tiles {
            Some(tiles) => Grid::Rows(maps * self.channels * tiles),
            None => Grid::Each(count),
        };
        launch(device, name, grid, &[&self.input(x)?[..], &rest, &sizes].concat())
    }

    /// The gradient of the weights.
    pub fn weight_gradient(&self, device: &mut dyn Device, x: Input, dy: Words, dw: Words) -> Result<()> {
        let strided = ["depthwise_weight_3", "depthwise_weight_5"];
        let tiled = [["tile_weight_3_1", "tile_weight_3_2"], ["tile_weight_5_1", "tile_weight_5_2"]];
        let (name, sizes, tiles) = self.kernel(strided, tiled, x)?;
        let (input, dy) = (self.input(x)?, dy.holds(self.outputs())?);
        let rows = self.slots * self.channels;
        let parts = match tiles {
            Some(tiles) => parts(rows, tiles, TILES),
            None => parts(rows, self.batch * self.output.iter().product::<usize>(), LEAST),
        };
        in_parts(device, dw, self.weights(), parts, |device, sums| {
            let args = [&input[..], &[dy, sums], &sizes, &[int(parts)]].concat();
            launch(device, name, Grid::Rows(rows * parts), &args)
        })
    }
}
