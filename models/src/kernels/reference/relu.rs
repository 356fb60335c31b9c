//! `max(x, 0)` with gradient 0 at 0, as in PyTorch. The gradient of candle's ReLU is 1 there.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::kernels::Implementation;
use crate::kernels::host::{slice, with_slice};

struct ReluReference;

impl CustomOp1 for ReluReference {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = slice(x, layout)?.iter().map(|x| x.max(0.0)).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let gate =
            |y: &[f32], dy: &[f32]| y.iter().zip(dy).map(|(y, d)| if *y > 0.0 { *d } else { 0.0 }).collect();
        let dx: Vec<f32> = with_slice(y, |y| with_slice(dy, |dy| gate(y, dy)))??;
        Tensor::from_vec(dx, y.shape(), y.device()).map(Some)
    }
}

/// Applies ReLU to a tensor of any shape.
pub fn relu(x: &Tensor, form: Implementation) -> Result<Tensor> {
    match form {
        Implementation::Reference => x * x.gt(&x.zeros_like()?)?.to_dtype(x.dtype())?,
        Implementation::Optimised => x.contiguous()?.apply_op1(ReluReference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_same, tensor, value_and_gradients};

    #[test]
    fn forms_agree_and_the_gradient_at_zero_is_zero() {
        let x = Tensor::from_slice(&[-1.0f32, 0.0, 2.0], 3, &candle_core::Device::Cpu).unwrap();
        let run =
            |form| value_and_gradients(std::slice::from_ref(&x), |v| relu(&v[0], form), &tensor(&[3], 1));
        assert_same(&run(Implementation::Optimised), &run(Implementation::Reference), 0.0);
        assert_eq!(run(Implementation::Optimised)[1][..2], [0.0, 0.0]);
    }
}
