//! Normalisation per channel: optimised as one pass over planes, reference as composed tensor operations.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernels::Implementation;
use crate::kernels::host::{slice, with_slice};

/// Mean and biased variance of each channel.
#[derive(Clone, Debug)]
pub struct BatchMoments {
    /// Mean of each channel, `[C]`.
    pub mean: Vec<f32>,
    /// Biased variance of each channel, `[C]`, that is, divided by the count.
    pub var: Vec<f32>,
    count: usize,
}

/// Returns the sum of `f(x)` in f64, from eight running sums.
fn sum(xs: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let mut sums = [0.0f64; 8];
    let chunks = xs.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|x| f(*x)).sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(s, x)| *s += f(*x));
    }
    sums.iter().sum::<f64>() + rest
}

/// Iterates over the planes of one channel of `[N, C, plane]`.
fn planes(x: &[f32], channels: usize, plane: usize, channel: usize) -> impl Iterator<Item = &[f32]> {
    x.chunks_exact(plane).skip(channel).step_by(channels)
}

impl BatchMoments {
    /// Computes the moments over images and pixels of `[N, C, H, W]`.
    pub fn of_batch(x: &Tensor) -> Result<Self> {
        let (n, c, h, w) = x.dims4()?;
        let count = n * h * w;
        let moments = with_slice(x, |x| -> Vec<(f32, f32)> {
            let of_channel = |channel| {
                let planes = || planes(x, c, h * w, channel);
                let mean = planes().map(|p| sum(p, f64::from)).sum::<f64>() / count as f64;
                let deviation = |x| (f64::from(x) - mean).powi(2);
                let var = planes().map(|p| sum(p, deviation)).sum::<f64>() / count as f64;
                (mean as f32, var as f32)
            };
            (0..c).into_par_iter().map(of_channel).collect()
        })?;
        let (mean, var) = moments.into_iter().unzip();
        Ok(BatchMoments { mean, var, count })
    }

    /// Returns the running statistics of training, `[C]` each.
    pub fn running(mean: &Tensor, var: &Tensor) -> Result<Self> {
        Ok(BatchMoments { mean: mean.to_vec1()?, var: var.to_vec1()?, count: 0 })
    }

    /// Returns the unbiased variance, divided by the count less one. The variance of a single value stays the biased
    /// one.
    pub fn unbiased(&self) -> Vec<f32> {
        let factor = self.count as f64 / self.count.saturating_sub(1).max(1) as f64;
        self.var.iter().map(|v| (f64::from(*v) * factor) as f32).collect()
    }

    fn inverse_deviation(&self, eps: f64) -> Vec<f32> {
        self.var.iter().map(|v| (1.0 / (f64::from(*v) + eps).sqrt()) as f32).collect()
    }
}

struct Normalise {
    mean: Arc<Vec<f32>>,
    inverse: Arc<Vec<f32>>,
    /// Whether the moments were computed from `x`, so that the gradient passes through them.
    of_batch: bool,
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, c, h, w) = xl.shape().dims4()?;
        let (x, weight, bias) = (slice(x, xl)?, slice(weight, wl)?, slice(bias, bl)?);
        let mut y = vec![0.0; x.len()];
        let planes = y.par_chunks_exact_mut(h * w).zip(x.par_chunks_exact(h * w)).enumerate();
        planes.for_each(|(at, (y, x))| {
            let channel = at % c;
            let scale = weight[channel] * self.inverse[channel];
            let (mean, bias) = (self.mean[channel], bias[channel]);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - mean) * scale + bias);
        });
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    /// With x' the normalised x and m the count: `dbias = sum dy`, `dweight = sum dy x'`, and through batch moments
    /// `dx = weight / deviation * (dy - dbias / m - x' dweight / m)`.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (n, c, h, w) = x.dims4()?;
        let (plane, count) = (h * w, (n * h * w) as f32);
        let weights: Vec<f32> = weight.to_vec1()?;
        let (dx, sums) = with_slice(x, |x| {
            with_slice(dy, |dy| {
                let of_channel = |channel| {
                    let (mean, inverse) = (f64::from(self.mean[channel]), f64::from(self.inverse[channel]));
                    let pairs = || planes(x, c, plane, channel).zip(planes(dy, c, plane, channel));
                    let products = |(x, dy): (&[f32], &[f32])| {
                        x.iter().zip(dy).map(|(x, d)| (f64::from(*x) - mean) * f64::from(*d)).sum::<f64>()
                    };
                    let bias = pairs().map(|(_, dy)| sum(dy, f64::from)).sum::<f64>();
                    let weight = pairs().map(products).sum::<f64>() * inverse;
                    (weight as f32, bias as f32)
                };
                let sums: Vec<(f32, f32)> = (0..c).into_par_iter().map(of_channel).collect();
                let mut dx = vec![0.0; x.len()];
                let tasks =
                    (dx.par_chunks_exact_mut(plane), x.par_chunks_exact(plane), dy.par_chunks_exact(plane));
                tasks.into_par_iter().enumerate().for_each(|(at, (dx, x, dy))| {
                    let channel = at % c;
                    let (dweight, dbias) = if self.of_batch { sums[channel] } else { (0.0, 0.0) };
                    let (mean, inverse) = (self.mean[channel], self.inverse[channel]);
                    let scale = weights[channel] * inverse;
                    let slope = inverse * dweight / count;
                    for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                        *dx = scale * (dy - dbias / count - (x - mean) * slope);
                    }
                });
                (dx, sums)
            })
        })??;
        let (dweight, dbias): (Vec<f32>, Vec<f32>) = sums.into_iter().unzip();
        let gradient = |of: &Tensor, d: Vec<f32>| Tensor::from_vec(d, of.shape(), of.device()).map(Some);
        Ok((gradient(x, dx)?, gradient(weight, dweight)?, gradient(bias, dbias)?))
    }
}

/// Computes `(x - mean) / sqrt(var + eps) * weight + bias` for `[N, C, H, W]`. Weight and bias are `[C]`; if absent
/// they are 1 and 0. `of_batch` states that the moments were computed from `x`, so that gradients pass through them.
pub fn batch_norm(
    x: &Tensor,
    affine: Option<(Tensor, Tensor)>,
    moments: BatchMoments,
    eps: f64,
    of_batch: bool,
    form: Implementation,
) -> crate::Result<Tensor> {
    let c = x.dim(1)?;
    let (weight, bias) = match affine {
        Some(affine) => affine,
        None => (Tensor::ones(c, x.dtype(), x.device())?, Tensor::zeros(c, x.dtype(), x.device())?),
    };
    match form {
        Implementation::Optimised => {
            let inverse = moments.inverse_deviation(eps).into();
            let op = Normalise { mean: moments.mean.into(), inverse, of_batch };
            Ok(x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?)
        }
        Implementation::Reference => Ok(composed(x, &weight, &bias, moments, eps, of_batch)?),
    }
}

fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    moments: BatchMoments,
    eps: f64,
    of_batch: bool,
) -> Result<Tensor> {
    let c = x.dim(1)?;
    let by_channel = |t: &Tensor| t.reshape((1, c, 1, 1));
    let (mean, var) = if of_batch {
        let flat = x.transpose(0, 1)?.flatten_from(1)?; // [C, N*H*W]
        let mean = flat.mean_keepdim(D::Minus1)?;
        let var = flat.broadcast_sub(&mean)?.sqr()?.mean_keepdim(D::Minus1)?;
        (mean, var)
    } else {
        let tensor = |v: Vec<f32>| Tensor::from_vec(v, c, x.device());
        (tensor(moments.mean)?, tensor(moments.var)?)
    };
    let y = x.broadcast_sub(&by_channel(&mean)?)?.broadcast_div(&by_channel(&(var + eps)?.sqrt()?)?)?;
    y.broadcast_mul(&by_channel(weight)?)?.broadcast_add(&by_channel(bias)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_same, finite_differences, tensor, value_and_gradients};

    fn run(x: &Tensor, of_batch: bool, form: Implementation) -> Vec<Vec<f32>> {
        let (weight, bias) = (tensor(&[3], 2), tensor(&[3], 3));
        let call = |v: &[Tensor]| {
            let moments = if of_batch {
                BatchMoments::of_batch(&v[0])?
            } else {
                BatchMoments::of_batch(&tensor(&[2, 3, 4, 4], 9))?
            };
            batch_norm(&v[0], Some((v[1].clone(), v[2].clone())), moments, 1e-5, of_batch, form)
                .map_err(|e| candle_core::Error::Msg(e.to_string()))
        };
        value_and_gradients(&[x.clone(), weight, bias], call, &tensor(x.dims(), 4))
    }

    #[test]
    fn forms_agree() {
        for (shape, of_batch) in [([4, 3, 5, 3], true), ([1, 3, 2, 2], true), ([2, 3, 4, 4], false)] {
            let x = tensor(&shape, 1);
            assert_same(
                &run(&x, of_batch, Implementation::Optimised),
                &run(&x, of_batch, Implementation::Reference),
                1e-5,
            );
        }
    }

    #[test]
    fn gradient_is_the_slope() {
        let call = |v: &[Tensor]| {
            let moments = BatchMoments::of_batch(&v[0])?;
            batch_norm(&v[0], None, moments, 1e-5, true, Implementation::Optimised)
                .map_err(|e| candle_core::Error::Msg(e.to_string()))
        };
        finite_differences(&[tensor(&[2, 3, 3, 3], 1)], call, &tensor(&[2, 3, 3, 3], 4), 2e-2);
    }

    #[test]
    fn unbiased_variance_of_one_number_is_finite() {
        let moments = BatchMoments::of_batch(&tensor(&[1, 2, 1, 1], 0)).unwrap();
        assert_eq!(moments.unbiased(), [0.0, 0.0]);
    }
}
