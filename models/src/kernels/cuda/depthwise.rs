//! Depthwise convolutions after ReLU, of several kinds at a time.

use super::device::{Arg, Device, LaunchGrid, Words, device_error, int, launch};
use super::norm::CudaScaling;
use super::parts::{BLOCKS, LEAST, part_sums, parts};
use crate::Result;

/// Kernel size and dilation of each kind, in the order of their slots.
pub const KINDS: [(usize, usize); 4] = [(3, 1), (5, 1), (3, 2), (5, 2)];

/// Memory of each kind: its weights `[slot][channel][row][column]`, or their gradients.
pub type ByKind = [Words; KINDS.len()];

/// Largest side of a tile, in pixels; the same as in `tiles.cu`.
const SIDE: usize = 32;
/// Pixels of a tile, of one or several images; the same as in `tiles.cu`.
const PIXELS: usize = SIDE * SIDE;

/// Outputs of a column per thread at stride 2; the same as in `depthwise.cu`.
const STRIP: usize = 4;

/// Largest number of taps of a kernel. Each part has a sum for each tap; the same as in `tiles.cu`.
const TAPS: usize = 25;

/// Fewest tiles for which a separate block with its own sums for the weights is worthwhile.
const TILES: usize = 4;

/// Sizes of convolutions that keep the size of the image at stride 1. A slot is one convolution of all channels.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise {
    /// Stride, 1 or 2.
    pub stride: usize,
    /// Number of slots of each kind.
    pub slots: [usize; KINDS.len()],
    /// Channels of each slot.
    pub channels: usize,
    /// Number of images.
    pub batch: usize,
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Rows and columns of the output, `ceil(input / stride)`.
    pub output: [usize; 2],
}

/// Input of the slots. The kernels apply ReLU to it.
#[derive(Clone, Copy, Debug)]
pub enum SlotInput {
    /// One feature map for all slots, `[channel][image][row][column]`.
    Shared(Words),
    /// One feature map per slot, `[slot][channel][image][row][column]`, and a scale and a shift to apply to it.
    Scaled(Words, CudaScaling),
}

impl Depthwise {
    fn all_slots(&self) -> usize {
        self.slots.iter().sum()
    }

    /// Number of weights of a kind.
    pub fn weights(&self, kind: usize) -> usize {
        self.slots[kind] * self.channels * KINDS[kind].0 * KINDS[kind].0
    }

    /// Number of elements of one slot's feature map of the given rows and columns.
    fn map(&self, size: [usize; 2]) -> usize {
        self.channels * self.batch * size[0] * size[1]
    }

    fn outputs(&self) -> usize {
        self.all_slots() * self.map(self.output)
    }

    fn inputs(&self, x: SlotInput) -> usize {
        let maps = if let SlotInput::Shared(_) = x { 1 } else { self.all_slots() };
        maps * self.map(self.input)
    }

    /// Number of tiles of a channel at stride 1.
    fn tiles(&self) -> usize {
        let [rows, columns] = self.output;
        let side = rows.max(columns).next_power_of_two().clamp(8, SIDE);
        self.batch.div_ceil(PIXELS / (side * side)) * rows.div_ceil(side) * columns.div_ceil(side)
    }

    /// Number of parts into which to cut the tiles of a slot and channel, with at least `least` tiles each.
    fn parts(&self, least: usize) -> usize {
        parts(self.all_slots() * self.channels, self.tiles(), least)
    }

    /// Returns the kernel arguments for an input.
    fn input(&self, x: SlotInput) -> Result<[Arg; 3]> {
        let factors = self.all_slots() * self.channels;
        let none = Arg::Read(Words::NONE);
        Ok(match x {
            SlotInput::Shared(values) => [values.holds(self.inputs(x))?, none, none],
            SlotInput::Scaled(values, CudaScaling { scale, shift }) => {
                [values.holds(self.inputs(x))?, scale.holds(factors)?, shift.holds(factors)?]
            }
        })
    }

    /// Returns the kernel arguments of all kinds; `arg` converts the memory.
    fn kinds(&self, w: ByKind, arg: impl Fn(Words, usize) -> Result<Arg>) -> Result<Vec<Arg>> {
        let words = w.iter().enumerate().map(|(kind, words)| arg(*words, self.weights(kind)));
        let slots = self.slots.iter().map(|slots| Ok(int(*slots)));
        words.chain(slots).collect()
    }

    /// Checks the sizes and returns whether there are any slots.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) for sizes that no kernel supports.
    fn check(&self) -> Result<bool> {
        if ![1, 2].contains(&self.stride) || self.stride == 1 && self.input != self.output {
            let problem = "expected a stride of 1 or 2, and at 1 an output of the input's size";
            return Err(device_error("depthwise convolutions", format!("{problem}, found {self:?}")));
        }
        Ok(self.all_slots() > 0)
    }

    fn sizes(&self, x: SlotInput) -> [Arg; 5] {
        let [rows, columns] = self.input.map(int);
        let shared = Arg::Int(i32::from(matches!(x, SlotInput::Shared(_))));
        [shared, int(self.channels), int(self.batch), rows, columns]
    }

    /// Returns the kinds that have slots, for stride 2. An entry has the index of the kind, a `Depthwise` of this
    /// kind alone, its part of `maps`, and its input.
    fn strided(&self, x: SlotInput, maps: Words) -> Result<Vec<(usize, Depthwise, Words, SlotInput)>> {
        let (mut found, mut before) = (Vec::new(), 0);
        for (kind, &slots) in self.slots.iter().enumerate().filter(|(_, slots)| **slots > 0) {
            let alone = Depthwise {
                slots: std::array::from_fn(|other| if other == kind { slots } else { 0 }),
                ..*self
            };
            let own = match x {
                SlotInput::Shared(_) => x,
                SlotInput::Scaled(values, CudaScaling { scale, shift }) => {
                    let factors = before * self.channels;
                    let values = values.from(before * self.map(self.input))?;
                    let (scale, shift) = (scale.from(factors)?, shift.from(factors)?);
                    SlotInput::Scaled(values, CudaScaling { scale, shift })
                }
            };
            found.push((kind, alone, maps.from(before * self.map(self.output))?, own));
            before += slots;
        }
        Ok(found)
    }

    /// Returns the size arguments of the kernels for one kind at stride 2.
    fn strided_sizes(&self, kind: usize, x: SlotInput) -> Vec<Arg> {
        let [shared, channels, batch, rows, columns] = self.sizes(x);
        let [out_rows, out_columns] = self.output.map(int);
        let (slots, dilation) = (int(self.slots[kind]), int(KINDS[kind].1));
        vec![shared, slots, channels, batch, rows, columns, out_rows, out_columns, dilation]
    }

    /// Computes the convolutions, to `y` `[slot][channel][image][row][column]`.
    pub fn forward(&self, device: &mut dyn Device, x: SlotInput, w: ByKind, y: Words) -> Result<()> {
        if !self.check()? {
            return Ok(());
        }
        if self.stride == 1 {
            let (splits, blocks) = match x {
                SlotInput::Shared(_) => {
                    let blocks = self.channels * self.tiles();
                    ((BLOCKS / blocks.max(1)).clamp(1, self.all_slots()), blocks)
                }
                SlotInput::Scaled(..) => (self.parts(1), self.all_slots() * self.channels),
            };
            let (input, y, sizes) = (self.input(x)?, y.written(self.outputs())?, self.sizes(x));
            let args = [&input[..], &self.kinds(w, Words::holds)?, &[y], &sizes, &[int(splits)]].concat();
            return launch(device, "tiles_forward", LaunchGrid::Rows(splits * blocks), &args);
        }
        for (kind, alone, y, x) in self.strided(x, y)? {
            let name = ["depthwise_forward_3", "depthwise_forward_5"][kind % 2];
            let rest = [w[kind].holds(self.weights(kind))?, y.written(alone.outputs())?];
            let args = [&alone.input(x)?[..], &rest, &alone.strided_sizes(kind, x)].concat();
            let [rows, columns] = self.output;
            let threads = alone.all_slots() * self.channels * self.batch * rows.div_ceil(STRIP) * columns;
            launch(device, name, LaunchGrid::Each(threads), &args)?;
        }
        Ok(())
    }

    /// Computes the gradient of the input before ReLU. For a shared input it is added to `dx`.
    pub fn input_gradient(
        &self,
        device: &mut dyn Device,
        x: SlotInput,
        w: ByKind,
        dy: Words,
        dx: Words,
    ) -> Result<()> {
        if !self.check()? {
            return Ok(());
        }
        if self.stride == 1 {
            let (parts, blocks) = match x {
                SlotInput::Shared(_) => (1, self.channels * self.tiles()),
                SlotInput::Scaled(..) => (self.parts(1), self.all_slots() * self.channels * self.parts(1)),
            };
            let rest = [dy.holds(self.outputs())?, dx.written(self.inputs(x))?];
            let (kinds, sizes) = (self.kinds(w, Words::holds)?, self.sizes(x));
            let args = [&self.input(x)?[..], &kinds, &rest, &sizes, &[int(parts)]].concat();
            return launch(device, "tiles_input", LaunchGrid::Rows(blocks), &args);
        }
        let (mut before, shared) = (0, matches!(x, SlotInput::Shared(_)));
        for (kind, alone, dy, x) in self.strided(x, dy)? {
            let name = ["depthwise_input_3", "depthwise_input_5"][kind % 2];
            let own = if shared { dx } else { dx.from(before * self.map(self.input))? };
            let count = alone.inputs(x);
            let rest = [w[kind].holds(self.weights(kind))?, dy.holds(alone.outputs())?, own.written(count)?];
            let args = [&alone.input(x)?[..], &rest, &alone.strided_sizes(kind, x)].concat();
            launch(device, name, LaunchGrid::Each(count), &args)?;
            before += self.slots[kind];
        }
        Ok(())
    }

    /// Computes the gradients of the weights.
    pub fn weight_gradient(
        &self,
        device: &mut dyn Device,
        x: SlotInput,
        dy: Words,
        dw: ByKind,
    ) -> Result<()> {
        if !self.check()? {
            return Ok(());
        }
        if self.stride == 1 {
            let units = self.all_slots() * self.channels;
            let parts = self.parts(TILES);
            let [sums, tickets] = part_sums(device, units, parts, TAPS)?;
            let (input, dy, sizes) = (self.input(x)?, dy.holds(self.outputs())?, self.sizes(x));
            let args =
                [&input[..], &self.kinds(dw, Words::written)?, &[dy, sums, tickets], &sizes, &[int(parts)]]
                    .concat();
            return launch(device, "tiles_weight", LaunchGrid::Rows(units * parts), &args);
        }
        for (kind, alone, dy, x) in self.strided(x, dy)? {
            let name = ["depthwise_weight_3", "depthwise_weight_5"][kind % 2];
            let units = self.slots[kind] * self.channels;
            let parts = parts(units, self.batch * self.output.iter().product::<usize>(), LEAST);
            let [sums, tickets] = part_sums(device, units, parts, KINDS[kind].0 * KINDS[kind].0)?;
            let rest = [dy.holds(alone.outputs())?, dw[kind].written(self.weights(kind))?, sums, tickets];
            let sizes = alone.strided_sizes(kind, x);
            let args = [&alone.input(x)?[..], &rest, &sizes, &[int(parts)]].concat();
            launch(device, name, LaunchGrid::Rows(units * parts), &args)?;
        }
        Ok(())
    }
}
