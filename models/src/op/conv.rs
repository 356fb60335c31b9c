//! Two-dimensional convolution (cross-correlation, as in all frameworks).

use candle_core::Tensor;

use super::{Init, OpContext, ParamRole, ParamSpec, Payload, Shaped, image, one, window};
use crate::graph::Fact;
use crate::{Result, kernels};

/// Number of zeros around an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Rows above the image.
    pub top: usize,
    /// Columns left of the image.
    pub left: usize,
    /// Rows below the image.
    pub bottom: usize,
    /// Columns right of the image.
    pub right: usize,
}

impl Padding {
    /// Returns a padding of `n` on all sides.
    pub fn all(n: usize) -> Self {
        Padding { top: n, left: n, bottom: n, right: n }
    }

    /// Total number of added rows.
    pub fn rows(self) -> usize {
        self.top.saturating_add(self.bottom)
    }

    /// Total number of added columns.
    pub fn columns(self) -> usize {
        self.left.saturating_add(self.right)
    }
}

/// `[N, in, H, W] -> [N, out, H', W']` with weight `[out, in/groups, kh, kw]` and an optional bias `[out]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows and columns of the kernel. Stride and dilation have the same order.
    pub kernel: [usize; 2],
    /// Distance between neighbouring windows, in pixels.
    pub stride: [usize; 2],
    /// Zeros around the image.
    pub padding: Padding,
    /// Distance between neighbouring taps, in pixels.
    pub dilation: [usize; 2],
    /// Number of groups of channels.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Conv2d {
    /// Returns a convolution with a square kernel, stride 1, no padding and no bias.
    pub fn new(in_channels: usize, out_channels: usize, kernel: usize) -> Self {
        Conv2d {
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: Padding::default(),
            dilation: [1; 2],
            groups: 1,
            bias: false,
        }
    }

    /// Returns a `1x1` convolution.
    pub fn pointwise(in_channels: usize, out_channels: usize) -> Self {
        Self::new(in_channels, out_channels, 1)
    }

    /// Returns a convolution with one kernel per channel, padded so that stride 1 keeps the image size.
    pub fn depthwise(channels: usize, kernel: usize, stride: usize, dilation: usize) -> Self {
        Conv2d {
            groups: channels,
            dilation: [dilation; 2],
            ..Self::new(channels, channels, kernel)
                .stride(stride)
                .padding(Padding::all(dilation * (kernel - 1) / 2))
        }
    }

    /// Returns this convolution with the given stride on both axes.
    pub fn stride(self, stride: usize) -> Self {
        Conv2d { stride: [stride; 2], ..self }
    }

    /// Returns this convolution with the given padding.
    pub fn padding(self, padding: Padding) -> Self {
        Conv2d { padding, ..self }
    }

    /// Returns this convolution with or without a bias.
    pub fn bias(self, bias: bool) -> Self {
        Conv2d { bias, ..self }
    }

    /// Whether each channel has its own kernel and no other input.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.in_channels == self.out_channels
    }

    fn weight_shape(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels / self.groups, self.kernel[0], self.kernel[1]]
    }

    fn fan_in(&self) -> usize {
        self.in_channels / self.groups * self.kernel[0] * self.kernel[1]
    }
}

impl Payload for Conv2d {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        let (channels, height, width) = image(x)?;
        if channels != self.in_channels {
            return Err(format!("reads {x}, needs {} channels", self.in_channels));
        }
        let divides = |n: usize| n > 0 && self.groups > 0 && n.is_multiple_of(self.groups);
        if !divides(self.in_channels) || !divides(self.out_channels) {
            return Err(format!("{} groups do not divide its {self:?}", self.groups));
        }
        let size =
            |axis, size, pads| window(size, self.kernel[axis], self.stride[axis], pads, self.dilation[axis]);
        let (rows, columns) = (size(0, height, self.padding.rows()), size(1, width, self.padding.columns()));
        match (rows, columns) {
            (Some(rows), Some(columns)) => {
                let mut dims = x.dims().to_vec();
                dims.splice(1.., Fact::fixed(&[self.out_channels, rows, columns]).dims().iter().copied());
                Ok(Fact::new(dims))
            }
            _ => Err(format!("its window does not fit {x}: {self:?}")),
        }
    }

    fn params(&self) -> Vec<ParamSpec> {
        let init = Init::Uniform(1.0 / (self.fan_in() as f32).sqrt());
        let weight = ParamSpec::new(ParamRole::Weight, &self.weight_shape(), init);
        let bias = self.bias.then(|| ParamSpec::new(ParamRole::Bias, &[self.out_channels], init));
        std::iter::once(weight).chain(bias).collect()
    }

    fn macs(&self, output: &Fact) -> u64 {
        output.volume().unwrap_or(0) as u64 * self.fan_in() as u64
    }

    fn run(&self, inputs: &[Tensor], context: &OpContext) -> Result<Tensor> {
        let y = kernels::conv2d(&inputs[0], &context.param(0), self, context.form)?;
        match self.bias {
            true => Ok(y.broadcast_add(&context.param(1).reshape((1, self.out_channels, 1, 1))?)?),
            false => Ok(y),
        }
    }

    fn text(&self) -> String {
        let Conv2d { in_channels, out_channels, kernel, stride, padding: p, dilation, groups, bias } = self;
        let pads = [p.top, p.left, p.bottom, p.right];
        format!(
            "conv2d[{in_channels}->{out_channels} kernel {kernel:?} stride {stride:?} pads {pads:?} \
             dilation {dilation:?} groups {groups} bias {bias}]"
        )
    }
}
