//! Pooling over windows and over the whole image.

use candle_core::Tensor;

use super::{OpContext, Padding, Payload, Shaped, image, one, window};
use crate::graph::Fact;
use crate::{Result, kernels};

/// Reduction of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The maximum; padding is minus infinity. The gradient goes to the first maximum in row-major order.
    Max,
    /// The mean. Padding counts as zeros with `count_padding`, else it is not counted.
    Average {
        /// ONNX's `count_include_pad`; DARTS does not use it.
        count_padding: bool,
    },
}

/// Pooling over windows: `[N, C, H, W] -> [N, C, H', W']`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Reduction of a window.
    pub kind: PoolKind,
    /// Rows and columns of the window. Stride and dilation have the same order.
    pub kernel: [usize; 2],
    /// Distance between neighbouring windows, in pixels.
    pub stride: [usize; 2],
    /// Padding around the image.
    pub padding: Padding,
    /// Distance between neighbouring taps, in pixels.
    pub dilation: [usize; 2],
}

impl Pool2d {
    /// Returns a pool with a square window, padded so that stride 1 keeps the image size.
    pub fn new(kind: PoolKind, kernel: usize, stride: usize) -> Self {
        let padding = Padding::all(kernel.saturating_sub(1) / 2);
        Pool2d { kind, kernel: [kernel; 2], stride: [stride; 2], padding, dilation: [1; 2] }
    }
}

impl Payload for Pool2d {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        let (_, height, width) = image(x)?;
        let p = self.padding;
        let reach = |axis: usize| (self.kernel[axis].saturating_sub(1)).saturating_mul(self.dilation[axis]);
        if p.top.max(p.bottom) > reach(0) || p.left.max(p.right) > reach(1) {
            return Err(format!("a window could lie in the padding alone: {self:?}"));
        }
        let size =
            |axis, size, pads| window(size, self.kernel[axis], self.stride[axis], pads, self.dilation[axis]);
        match (size(0, height, p.rows()), size(1, width, p.columns())) {
            (Some(rows), Some(columns)) => {
                let mut dims = x.dims().to_vec();
                dims.splice(2.., Fact::fixed(&[rows, columns]).dims().iter().copied());
                Ok(Fact::new(dims))
            }
            _ => Err(format!("its window does not fit {x}: {self:?}")),
        }
    }

    fn run(&self, inputs: &[Tensor], context: &OpContext) -> Result<Tensor> {
        Ok(kernels::pool2d(&inputs[0], self, context.form)?)
    }

    fn text(&self) -> String {
        let (kind, p) = (self.kind, self.padding);
        let pads = [p.top, p.left, p.bottom, p.right];
        format!(
            "pool2d[{kind:?} kernel {:?} stride {:?} pads {pads:?} dilation {:?}]",
            self.kernel, self.stride, self.dilation
        )
    }
}

/// The mean of each channel: `[N, C, H, W] -> [N, C, 1, 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalAvgPool;

impl Payload for GlobalAvgPool {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        image(x)?;
        let mut dims = x.dims().to_vec();
        dims.splice(2.., Fact::fixed(&[1, 1]).dims().iter().copied());
        Ok(Fact::new(dims))
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        Ok(inputs[0].mean_keepdim(3)?.mean_keepdim(2)?)
    }

    fn text(&self) -> String {
        "global_avg_pool".into()
    }
}
