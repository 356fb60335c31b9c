//! Convolutions: by own kernels for depthwise and pointwise ones, else by a library of the device, or by im2col
//! and matrix products.

use milenas_models::Result;
use milenas_models::kernels::cuda::convolution::{self, Convolve, Way};
use milenas_models::kernels::cuda::depthwise::{ByKind, Depthwise, KINDS, SlotInput};
use milenas_models::kernels::cuda::pointwise::Pointwise;
use milenas_models::kernels::cuda::product::{ProductDims, row_products};
use milenas_models::kernels::cuda::windows::Windows;
use milenas_models::kernels::cuda::{Device, Gemm, Words};
use milenas_models::op::Conv2d;

use super::maps::{ChannelMap, outside};
use super::pass::NetworkPass;

/// Convolution without a bias.
#[derive(Clone, Debug)]
pub(super) struct CudaConv {
    pub(super) x: ChannelMap,
    pub(super) y: ChannelMap,
    /// Index of the weight.
    pub(super) weight: usize,
    pub(super) form: ConvKernel,
}

/// Kernel that computes a convolution.
#[derive(Clone, Debug)]
pub(super) enum ConvKernel {
    /// Depthwise convolution of a ReLU output.
    Depthwise { kind: usize, stride: usize },
    /// Convolution `1x1` with stride 1. `alone` states that nothing else reads the input, so that its gradient
    /// may be overwritten. `moments` is the offset of the statistics for a BatchNorm that follows, if one does.
    Pointwise { alone: bool, moments: Option<usize> },
    /// Convolution by windows. `fed` states that the input is the network's input, which has no gradient.
    Windows { conv: Conv2d, fed: bool },
}

impl CudaConv {
    fn depthwise(&self, batch: usize, kind: usize, stride: usize) -> Depthwise {
        let mut slots = [0; KINDS.len()];
        slots[kind] = 1;
        Depthwise { stride, slots, channels: self.x.channels, batch, input: self.x.size, output: self.y.size }
    }

    fn windows(&self, batch: usize, conv: &Conv2d) -> Windows {
        Windows {
            channels: self.x.channels,
            batch,
            input: self.x.size,
            output: self.y.size,
            kernel: conv.kernel,
            stride: conv.stride,
            dilation: conv.dilation,
            before: outside(conv.padding),
        }
    }

    /// Returns the number of elements of the im2col buffer, which is kept for the backward pass; 0 if the
    /// device convolves directly.
    pub(super) fn seen(&self, device: &mut dyn Device, batch: usize) -> Result<usize> {
        match &self.form {
            ConvKernel::Depthwise { .. } | ConvKernel::Pointwise { .. } => Ok(0),
            ConvKernel::Windows { conv, fed } => match !fed && device.convolves(&self.whole(batch, conv))? {
                true => Ok(0),
                false => Ok(self.windows(batch, conv).seen()),
            },
        }
    }

    /// Returns the convolution as the argument of a library.
    fn whole(&self, batch: usize, conv: &Conv2d) -> convolution::Convolution {
        let windows = self.windows(batch, conv);
        convolution::Convolution { windows, outputs: conv.out_channels, groups: conv.groups }
    }

    /// Returns the sizes of the products of groups (rows of the weight, depth, pixels), and the strides between
    /// groups of weight, im2col buffer and result.
    fn products(&self, batch: usize, conv: &Conv2d) -> ([usize; 3], [usize; 3]) {
        let (rows, length) = (conv.out_channels / conv.groups, self.y.length(batch));
        let depth = conv.in_channels / conv.groups * conv.kernel[0] * conv.kernel[1];
        ([rows, depth, length], [rows * depth, depth * length, rows * length])
    }

    /// Runs the convolution. `kept` is the im2col buffer; it is empty if the device convolves directly.
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
                self.square(batch).forward(pass.device, a, x, y, moments)
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

    /// Computes the gradients of weight and input. `kept` holds the im2col buffer, then its gradient.
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
                row_products(pass.device, dy, x, dw, false, 1, ProductDims { m: rows, n: columns, length })?;
                if *alone && self.is_square() {
                    return self.square(batch).backward(pass.device, a, dy, dx);
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
                let dims = ProductDims { m: rows, n: depth, length };
                row_products(pass.device, dy, kept, dw, false, conv.groups, dims)?;
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

    /// Returns whether the convolution is pointwise with equal numbers of input and output channels.
    pub(super) fn is_square(&self) -> bool {
        matches!(self.form, ConvKernel::Pointwise { .. }) && self.x.channels == self.y.channels
    }

    fn square(&self, batch: usize) -> Pointwise {
        Pointwise { slots: 1, channels: self.x.channels, length: self.x.length(batch) }
    }
}

/// Returns the buffers by kind, with `words` for one kind and empty ones for the others.
fn of_kind(kind: usize, words: Words) -> ByKind {
    let mut all = [Words::NONE; KINDS.len()];
    all[kind] = words;
    all
}
