//! Convolution: a reference in plain loops, and two optimised kernels, one for depthwise convolutions and one for all
//! others.

mod correlate;
mod depthwise;
mod direct;
mod product;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::kernels::Implementation;
use crate::kernels::host::{slice, with_slice};
use crate::op::{Conv2d, Padding};

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug)]
struct ConvGeometry {
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    groups: usize,
    /// Rows and columns. The fields below have the same order.
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
}

impl ConvGeometry {
    fn new(conv: &Conv2d, x: &[usize]) -> Result<Self> {
        let &[batch, in_channels, height, width] = x else {
            return Err(candle_core::Error::Msg(format!("a convolution reads [N, C, H, W], found {x:?}")));
        };
        let size = |axis: usize, size: usize, pads: usize| {
            (size + pads)
                .checked_sub(conv.dilation[axis] * (conv.kernel[axis] - 1) + 1)
                .map(|n| n / conv.stride[axis] + 1)
        };
        let (rows, columns) = (size(0, height, conv.padding.rows()), size(1, width, conv.padding.columns()));
        let (Some(rows), Some(columns), true) = (rows, columns, in_channels == conv.in_channels) else {
            return Err(candle_core::Error::Msg(format!("{conv:?} does not fit {x:?}")));
        };
        Ok(ConvGeometry {
            batch,
            in_channels,
            out_channels: conv.out_channels,
            groups: conv.groups,
            input: [height, width],
            output: [rows, columns],
            kernel: conv.kernel,
            stride: conv.stride,
            dilation: conv.dilation,
            padding: conv.padding,
        })
    }

    fn in_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn out_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn x_len(&self) -> usize {
        self.batch * self.in_channels * self.in_plane()
    }

    fn y_len(&self) -> usize {
        self.batch * self.out_channels * self.out_plane()
    }

    fn w_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.taps()
    }
}

/// The three passes of a convolution. Slices are row-major: `x` `[N, in, H, W]`, `w` `[out, in/groups, kh, kw]`, `y`
/// `[N, out, H', W']`. The caller sets results to zero.
trait ReferenceKernel: Sync {
    fn forward(&self, g: &ConvGeometry, x: &[f32], w: &[f32], y: &mut [f32]);
    fn input_gradient(&self, g: &ConvGeometry, dy: &[f32], w: &[f32], dx: &mut [f32]);
    fn weight_gradient(&self, g: &ConvGeometry, dy: &[f32], x: &[f32], dw: &mut [f32]);
}

struct ConvReference {
    conv: Conv2d,
    form: Implementation,
}

impl ConvReference {
    fn kernel(&self) -> &'static dyn ReferenceKernel {
        match self.form {
            Implementation::Reference => &direct::Direct,
            Implementation::Optimised if self.conv.is_depthwise() => &depthwise::DepthwiseReference,
            Implementation::Optimised => &product::ProductReference,
        }
    }
}

impl CustomOp2 for ConvReference {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let g = ConvGeometry::new(&self.conv, xl.dims())?;
        let mut y = vec![0.0; g.y_len()];
        self.kernel().forward(&g, slice(x, xl)?, slice(w, wl)?, &mut y);
        Ok((CpuStorage::F32(y), (g.batch, g.out_channels, g.output[0], g.output[1]).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = ConvGeometry::new(&self.conv, x.dims())?;
        let gradient = |of: &Tensor, len, kernel: &dyn Fn(&mut [f32]) -> Result<()>| match of.track_op() {
            true => {
                let mut out = vec![0.0; len];
                kernel(&mut out)?;
                Tensor::from_vec(out, of.shape(), of.device()).map(Some)
            }
            false => Ok(None),
        };
        with_slice(dy, |dy| {
            let dx =
                gradient(x, g.x_len(), &|dx| with_slice(w, |w| self.kernel().input_gradient(&g, dy, w, dx)))?;
            let dw = gradient(w, g.w_len(), &|dw| {
                with_slice(x, |x| self.kernel().weight_gradient(&g, dy, x, dw))
            })?;
            Ok((dx, dw))
        })?
    }
}

/// Convolves `[N, in, H, W]` with a weight `[out, in/groups, kh, kw]` to `[N, out, H', W']`; see [`Conv2d`].
pub fn conv2d(x: &Tensor, weight: &Tensor, conv: &Conv2d, form: Implementation) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&weight.contiguous()?, ConvReference { conv: conv.clone(), form })
}

#[cfg(test)]
mod tests;
