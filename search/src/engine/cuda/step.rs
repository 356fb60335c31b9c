//! Steps of a pass, forward and backward. Gradients of feature maps are cleared before the backward pass, in
//! which every step adds to the gradients of its inputs.

use milenas_models::Result;
use milenas_models::kernels::cuda::mixture::Sources;
use milenas_models::kernels::cuda::norm::{self, CudaScaling, NormCoefficients, TermMaps, Terms, Weight};
use milenas_models::kernels::cuda::pool::Pool;
use milenas_models::kernels::cuda::windows::Windows;
use milenas_models::kernels::cuda::{Device, Words, relu, stem_head, sums};
use milenas_models::op::Pool2d;

use super::convolution::CudaConv;
use super::maps::{ChannelMap, outside};
use super::pass::NetworkPass;

/// Step for a node.
#[derive(Clone, Debug)]
pub(super) enum CudaStep {
    Convolution(CudaConv),
    Norm(NormStep),
    /// Max or average pooling of 3x3 windows with padding 1.
    Pool {
        most: bool,
        stride: usize,
        x: ChannelMap,
        y: ChannelMap,
    },
    /// Average pooling of any windows.
    Means {
        pool: Pool2d,
        x: ChannelMap,
        y: ChannelMap,
    },
    /// Global average pooling.
    Mean {
        x: ChannelMap,
        y: ChannelMap,
    },
    /// ReLU.
    Relu {
        x: ChannelMap,
        y: ChannelMap,
    },
    Sum {
        parts: Vec<ChannelMap>,
        y: ChannelMap,
    },
    /// Crop that starts at this row and column.
    Crop {
        from: [usize; 2],
        x: ChannelMap,
        y: ChannelMap,
    },
    Zeros {
        y: ChannelMap,
    },
    /// Drop path: multiplication of each image by a factor.
    Weigh {
        path: usize,
        map: ChannelMap,
    },
}

/// BatchNorm.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormStep {
    pub(super) x: ChannelMap,
    pub(super) y: ChannelMap,
    /// Indices of the parameters.
    pub(super) weight: usize,
    pub(super) bias: usize,
    /// Offset of the statistics.
    pub(super) moments: usize,
    /// Whether the step before computes the statistics.
    pub(super) counted: bool,
}

impl CudaStep {
    /// Returns the number of elements that the step keeps from the forward to the backward pass.
    pub(super) fn kept(&self, device: &mut dyn Device, batch: usize) -> Result<usize> {
        match self {
            CudaStep::Convolution(convolution) => convolution.seen(device, batch),
            CudaStep::Pool { most: true, y, .. } => Ok(y.words(batch)),
            CudaStep::Pool { .. }
            | CudaStep::Norm(_)
            | CudaStep::Means { .. }
            | CudaStep::Mean { .. }
            | CudaStep::Relu { .. }
            | CudaStep::Sum { .. }
            | CudaStep::Crop { .. }
            | CudaStep::Zeros { .. }
            | CudaStep::Weigh { .. } => Ok(0),
        }
    }

    pub(super) fn forward(&self, pass: &mut NetworkPass<'_>, kept: Words) -> Result<()> {
        match self {
            CudaStep::Convolution(convolution) => convolution.forward(pass, kept),
            CudaStep::Norm(norm) => norm.forward(pass),
            &CudaStep::Pool { most, stride, x, y } => {
                let (from, to) = (pass.value(x)?, pass.value(y)?);
                let [largest, means] = if most { [to, Words::NONE] } else { [Words::NONE, to] };
                pool(pass.batch, stride, x, y).forward(pass.device, from, largest, kept, means)
            }
            CudaStep::Means { pool, x, y } => {
                let (from, to) = (pass.value(*x)?, pass.value(*y)?);
                pooled(pass.batch, pool, *x, *y).means(pass.device, from, to)
            }
            CudaStep::Mean { x, y } => {
                let (from, to, planes) = (pass.value(*x)?, pass.value(*y)?, x.channels * pass.batch);
                stem_head::row_sums(pass.device, from, to, planes, x.length(1), share(*x))
            }
            CudaStep::Relu { x, y } => {
                let (from, to) = (pass.value(*x)?, pass.value(*y)?);
                relu::forward(pass.device, from, to, y.words(pass.batch))
            }
            CudaStep::Sum { parts, y } => {
                let to = pass.value(*y)?;
                parts.iter().enumerate().try_for_each(|(i, part)| {
                    let from = pass.value(*part)?;
                    sums::accumulate(pass.device, from, to, y.words(pass.batch), i > 0)
                })
            }
            &CudaStep::Crop { from, x, y } => {
                let (whole, part) = (pass.value(x)?, pass.value(y)?);
                crop(pass.batch, from, x, y).forward(pass.device, whole, part, false)
            }
            CudaStep::Zeros { y } => {
                let y = pass.value(*y)?;
                pass.device.clear(y)
            }
            &CudaStep::Weigh { path, map } => {
                let y = pass.value(map)?;
                weigh(pass, path, map, y)
            }
        }
    }

    pub(super) fn backward(&self, pass: &mut NetworkPass<'_>, kept: Words) -> Result<()> {
        match self {
            CudaStep::Convolution(convolution) => convolution.backward(pass, kept),
            CudaStep::Norm(norm) => norm.backward(pass),
            &CudaStep::Pool { most, stride, x, y } => {
                let (dx, dy) = (pass.gradient(x)?, pass.gradient(y)?);
                let [largest, means] = if most { [dy, Words::NONE] } else { [Words::NONE, dy] };
                pool(pass.batch, stride, x, y).backward(pass.device, largest, kept, means, dx)
            }
            CudaStep::Means { pool, x, y } => {
                let (dx, dy) = (pass.gradient(*x)?, pass.gradient(*y)?);
                pooled(pass.batch, pool, *x, *y).means_back(pass.device, dy, dx)
            }
            CudaStep::Mean { x, y } => {
                let (dx, dy, planes) = (pass.gradient(*x)?, pass.gradient(*y)?, x.channels * pass.batch);
                stem_head::spread(pass.device, dy, dx, planes, x.length(1), share(*x), true)
            }
            CudaStep::Relu { x, y } => {
                let (value, dx, dy) = (pass.value(*y)?, pass.gradient(*x)?, pass.gradient(*y)?);
                relu::backward(pass.device, value, dy, dx, y.words(pass.batch), true)
            }
            CudaStep::Sum { parts, y } => {
                let dy = pass.gradient(*y)?;
                parts.iter().try_for_each(|part| {
                    let dx = pass.gradient(*part)?;
                    sums::accumulate(pass.device, dy, dx, y.words(pass.batch), true)
                })
            }
            &CudaStep::Crop { from, x, y } => {
                let (dx, dy) = (pass.gradient(x)?, pass.gradient(y)?);
                crop(pass.batch, from, x, y).backward(pass.device, dy, dx)
            }
            CudaStep::Zeros { .. } => Ok(()),
            &CudaStep::Weigh { path, map } => {
                let dy = pass.gradient(map)?;
                weigh(pass, path, map, dy)
            }
        }
    }
}

impl NormStep {
    fn terms(&self, pass: &NetworkPass<'_>) -> Result<Terms> {
        let weight = Weight::OfChannel(pass.weight(self.weight)?);
        Ok(Terms { weight, ..Terms::plain(1, self.x.channels) })
    }

    fn forward(&self, pass: &mut NetworkPass<'_>) -> Result<()> {
        let (x, y, moments) = (pass.value(self.x)?, pass.value(self.y)?, pass.moments(self.moments)?);
        let (channels, length) = (self.x.channels, self.x.length(pass.batch));
        if pass.training && !self.counted {
            norm::moments(pass.device, x, moments, channels, length)?;
        }
        let (bias, [scale, shift, _]) = (pass.weight(self.bias)?, pass.factors(self.moments, channels)?);
        let scaling = CudaScaling { scale, shift };
        self.terms(pass)?.scaling(pass.device, moments, bias, scaling)?;
        norm::normalise(pass.device, x, scaling, y, channels, length, false)
    }

    fn backward(&self, pass: &mut NetworkPass<'_>) -> Result<()> {
        let (x, dx, dy) = (pass.value(self.x)?, pass.gradient(self.x)?, pass.gradient(self.y)?);
        let (sum, reach) = (pass.weight_gradient(self.bias)?, pass.weight_gradient(self.weight)?);
        let slopes = NormCoefficients { sum, abc: pass.factors(self.moments, self.x.channels)?, reach };
        let (moments, length) = (pass.moments(self.moments)?, self.x.length(pass.batch));
        let maps = TermMaps { z: x, x: Words::NONE };
        self.terms(pass)?.coefficients(pass.device, dy, maps, length, moments, &slopes)?;
        let size = [self.x.channels, length];
        let one = Sources { count: 1, first: Words::NONE, target: Words::NONE, size };
        one.backward(pass.device, dy, x, &slopes, dx, true)
    }
}

fn pool(batch: usize, stride: usize, x: ChannelMap, y: ChannelMap) -> Pool {
    Pool { planes: x.channels * batch, input: x.size, output: y.size, stride }
}

fn pooled(batch: usize, pool: &Pool2d, x: ChannelMap, y: ChannelMap) -> Windows {
    Windows {
        channels: x.channels,
        batch,
        input: x.size,
        output: y.size,
        kernel: pool.kernel,
        stride: pool.stride,
        dilation: pool.dilation,
        before: outside(pool.padding),
    }
}

fn crop(batch: usize, from: [usize; 2], x: ChannelMap, y: ChannelMap) -> Windows {
    Windows {
        channels: x.channels,
        batch,
        input: x.size,
        output: y.size,
        kernel: [1; 2],
        stride: [1; 2],
        dilation: [1; 2],
        before: from.map(|n| -i32::try_from(n).unwrap_or(i32::MAX)),
    }
}

fn share(map: ChannelMap) -> f32 {
    1.0 / map.length(1) as f32
}

/// Multiplies every image by its factor, if there are factors.
fn weigh(pass: &mut NetworkPass<'_>, path: usize, map: ChannelMap, words: Words) -> Result<()> {
    if pass.paths.is_empty() {
        return Ok(());
    }
    let factors = pass.paths.part(path * pass.batch, pass.batch)?;
    sums::weigh(pass.device, words, factors, map.channels, pass.batch, map.length(1))
}
