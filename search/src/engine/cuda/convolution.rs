//! Convolutions: by the kernels for depthwise and for pointwise ones, else by a library of the device, or as products of what windows
//! see.

use milenas_models::Result;
use milenas_models::kernels::cuda::convolution::{self, Convolve, Way};
use milenas_models::kernels::cuda::depthwise::{ByKind, Depthwise, KINDS, SlotInput};
use milenas_models::kernels::cuda::pointwise::Pointwise;
use milenas_models::kernels::cuda::product::row_products;
use milenas_models::kernels::cuda::windows::Windows;
use milenas_models::kernels::cuda::{Device, Gemm, Words};
use milenas_models::op::Conv2d;

use super::maps::{ChannelMap, outside, windows};
use super::pass::NetworkPass;

/// A convolution without a bias.
#[derive(Clone, Debug)]
pub(super) struct CudaConv {
    pub(super) x: ChannelMap,
    pub(super) y: ChannelMap,
    /// The number of its weight.
    pub(super) weight: usize,
    pub(super) form: ConvKernel,
}

/// What computes it.
#[derive(Clone, Debug)]
pub(super) enum ConvKernel {
    /// Of a positive part.
    Depthwise { kind: usize, stride: usize },
    /// `1x1`, of every pixel. `alone` where nothing else reads its map, whose gradient it may then overwrite; `moments` are the first of
    /// those that a BatchNorm behind it wants, if one is.
    Pointwise { alone: bool, moments: Option<usize> },
    /// Any; of images as they are fed, which have no gradient, where `fed`.
    Windows { conv: Conv2d, fed: bool },
}

impl CudaConv {
    fn depthwise(&self, batch: usize, kind: usize, stride: usize) -> Depthwise {
        let mut slots = [0; KINDS.len()];
        slots[kind] = 1;
        Depthwise { stride, slots, channels: self.x.channels, batch, input: self.x.size, output: self.y.size }
    }

    fn windows(&self, batch: usize, conv: &Conv2d) -> Windows {
        windows(batch, [self.x, self.y], [conv.kernel, conv.stride, conv.dilation], outside(conv.padding))
    }

    /// Words of what its windows see, which it keeps for the way back; none where the device convolves so by itself.
    pub(super) fn seen(&self, device: &mut dyn Device, batch: usize) -> Result<usize> {
        match &self.form {
            ConvKernel::Depthwise { .. } | ConvKernel::Pointwise { .. } => Ok(0),
            ConvKernel::Windows { conv, fed } => match !fed && device.convolves(&self.whole(batch, conv))? {
                true => Ok(0),
                false => Ok(self.windows(batch, conv).seen()),
            },
        }
    }

    /// As a library takes it.
    fn whole(&self, batch: usize, conv: &Conv2d) -> convolution::Convolution {
        let windows = self.windows(batch, conv);
        convolution::Convolution { windows, outputs: conv.out_channels, groups: conv.groups }
    }

    /// Products of groups: rows of the weight, what is summed over, pixels; and the steps from group to group of weight, windows and
    /// result.
    fn products(&self, batch: usize, conv: &Conv2d) -> ([usize; 3], [usize; 3]) {
        let (rows, length) = (conv.out_channels / conv.groups, self.y.length(batch));
        let depth = conv.in_channels / conv.groups * conv.kernel[0] * conv.kernel[1];
        ([rows, depth, length], [rows * depth, depth * length, rows * length])
    }

    /// `kept` is memory for what windows see; there is none where the device convolves by itself.
    pub(super) fn forward(&self, pass: &mut NetworkPass<'_>, kept: Words) -> Result<()> {
        let (x, y, a) = (pass.value(self.x)?, pass.value(self.y)?, pass.weight(self.weight)?);
        let (batch, transposed, add) = (pass.batch, false, false);
        match &self.form {
            &ConvKernel::Depthwise { kind, stride } => self.depthwise(batch, kind, stride).forward(
                pass.device,
                SlotInput::Shared(x),
                of_kind(kind, a),
                y,
            ),
            ConvKernel::Pointwise { moments, .. } if self.is_square() => {
                let wanted = moments.filter(|_| pass.training);
                let moments = wanted.map(|first| pass.moments(first)).transpose()?;
                self.square(batch).forward(pass.device, a, [x, y], moments)
            }
            ConvKernel::Pointwise { .. } => {
                let sizes = [self.y.channels, self.y.length(batch), self.x.channels];
                pass.device.gemm(&Gemm { sizes, a, transposed, b: x, c: y, steps: [0; 3], batch: 1, add })
            }
            ConvKernel::Windows { conv, .. } if kept.is_empty() => {
                let (convolution, way) = (self.whole(batch, conv), Way::Forward);
                pass.device.convolve(&Convolve { convolution, way, x, w: a, y })
            }
            ConvKernel::Windows { conv, fed } => {
                let ([rows, depth, length], steps) = self.products(batch, conv);
                let x = if *fed { pass.images } else { x };
                self.windows(batch, conv).forward(pass.device, x, kept, *fed)?;
                let (sizes, batch) = ([rows, length, depth], conv.groups);
                pass.device.gemm(&Gemm { sizes, a, transposed, b: kept, c: y, steps, batch, add })
            }
        }
    }

    /// `kept` has what windows saw; then the gradient of that.
    pub(super) fn backward(&self, pass: &mut NetworkPass<'_>, kept: Words) -> Result<()> {
        let (x, dx, dy) = (pass.value(self.x)?, pass.gradient(self.x)?, pass.gradient(self.y)?);
        let (a, dw, batch) = (pass.weight(self.weight)?, pass.weight_gradient(self.weight)?, pass.batch);
        let transposed = true;
        match &self.form {
            &ConvKernel::Depthwise { kind, stride } => {
                let depthwise = self.depthwise(batch, kind, stride);
                depthwise.weight_gradient(pass.device, SlotInput::Shared(x), dy, of_kind(kind, dw))?;
                depthwise.input_gradient(pass.device, SlotInput::Shared(x), of_kind(kind, a), dy, dx)
            }
            ConvKernel::Pointwise { alone, .. } => {
                let [rows, columns, length] = [self.y.channels, self.x.channels, self.y.length(batch)];
                row_products(pass.device, [dy, x, dw], false, 1, [rows, columns, length])?;
                if *alone && self.is_square() {
                    return self.square(batch).backward(pass.device, a, [dy, dx]);
                }
                let (sizes, steps) = ([columns, length, rows], [0; 3]);
                pass.device.gemm(&Gemm { sizes, a, transposed, b: dy, c: dx, steps, batch: 1, add: true })
            }
            ConvKernel::Windows { conv, .. } if kept.is_empty() => {
                let convolution = self.whole(batch, conv);
                let of = |way, x, w| Convolve { convolution, way, x, w, y: dy };
                pass.device.convolve(&of(Way::ToWeight, x, dw))?;
                pass.device.convolve(&of(Way::ToInput, dx, a))
            }
            ConvKernel::Windows { conv, fed } => {
                let ([rows, depth, length], [of_weight, of_windows, of_y]) = self.products(batch, conv);
                row_products(pass.device, [dy, kept, dw], false, conv.groups, [rows, depth, length])?;
                if *fed {
                    return Ok(());
                }
                let (sizes, steps, groups) =
                    ([depth, length, rows], [of_weight, of_y, of_windows], conv.groups);
                pass.device.gemm(&Gemm {
                    sizes,
                    a,
                    transposed,
                    b: dy,
                    c: kept,
                    steps,
                    batch: groups,
                    add: false,
                })?;
                self.windows(batch, conv).backward(pass.device, kept, dx)
            }
        }
    }

    /// Whether it is pointwise, with as many channels out as in.
    pub(super) fn is_square(&self) -> bool {
        matches!(self.form, ConvKernel::Pointwise { .. }) && self.x.channels == self.y.channels
    }

    fn square(&self, batch: usize) -> Pointwise {
        Pointwise { slots: 1, channels: self.x.channels, length: self.x.length(batch) }
    }
}

/// Words of one kind, and none of the others.
fn of_kind(kind: usize, words: Words) -> ByKind {
    let mut all = [Words::NONE; KINDS.len()];
    all[kind] = words;
    all
}
