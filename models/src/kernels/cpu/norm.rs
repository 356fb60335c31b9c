//! BatchNorm as two coefficients per channel in the forward pass and three in the backward pass.
//!
//! The kernels that write a feature map also compute its sums over pixels. This module turns them into
//! `scale * y + shift` and the gradient `a * g + b * y + c`. Sums over a batch use double precision and the order of
//! the images, so they do not depend on the number of threads.

use super::simd::{LANES, Pack, floats, floats_mut};

/// Constant added to the variance.
pub const EPSILON: f64 = 1e-5;

/// Coefficients of `scale * y + shift` for each channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scaling {
    /// Factor of each channel, `[block]`.
    pub scale: Vec<Pack>,
    /// Addend of each channel, `[block]`.
    pub shift: Vec<Pack>,
}

impl Scaling {
    /// Returns the identity on `packs` blocks.
    pub fn identity(packs: usize) -> Scaling {
        Scaling { scale: vec![Pack::ONE; packs], shift: vec![Pack::ZERO; packs] }
    }

    /// Sets the coefficients that give lane `c` mean 0 and variance 1.
    pub fn normalise(&mut self, moments: &NormMoments) {
        for (c, (mean, variance)) in moments.mean.iter().zip(&moments.variance).enumerate() {
            let scale = 1.0 / (variance + EPSILON).sqrt();
            self.scale[c / LANES].0[c % LANES] = scale as f32;
            self.shift[c / LANES].0[c % LANES] = (-mean * scale) as f32;
        }
    }
}

/// Adds one sum per image, lane by lane in double precision.
pub fn total<'a>(images: impl Iterator<Item = &'a [Pack]>, packs: usize) -> Vec<f64> {
    let mut out = vec![0.0; packs * LANES];
    for image in images {
        for (out, pack) in out.chunks_exact_mut(LANES).zip(image) {
            for (out, x) in out.iter_mut().zip(pack.0) {
                *out += f64::from(x);
            }
        }
    }
    out
}

/// Mean and biased variance of each lane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormMoments {
    /// Mean of each lane.
    pub mean: Vec<f64>,
    /// Biased variance of each lane, that is, divided by the count.
    pub variance: Vec<f64>,
}

impl NormMoments {
    /// Computes the moments from the sums of `count` values and of their squares.
    pub fn of(mut sum: Vec<f64>, mut square: Vec<f64>, count: f64) -> NormMoments {
        for (mean, variance) in sum.iter_mut().zip(&mut square) {
            *mean /= count;
            *variance = (*variance / count - *mean * *mean).max(0.0);
        }
        NormMoments { mean: sum, variance: square }
    }
}

/// Coefficients of the gradient of a BatchNorm's input `y`, given the gradient `g` of its output:
/// `a * g + b * y + c`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormCoefficient {
    /// Factor of `g`, `[block]`.
    pub a: Vec<Pack>,
    /// Factor of `y`, `[block]`.
    pub b: Vec<Pack>,
    /// Constant, `[block]`.
    pub c: Vec<Pack>,
}

impl NormCoefficient {
    /// Computes the coefficients for an output that is multiplied by `weight`, where `g` is the gradient of the
    /// weighted sum. `sum` and `dot` are the sums of `g` and of `g * y` over `count` values. Also returns the sum of
    /// `g * (scale * y + shift)`, which is the gradient of `weight`.
    pub fn of(
        scaling: &Scaling,
        weight: f64,
        sum: &[f64],
        dot: &[f64],
        count: f64,
    ) -> (NormCoefficient, f64) {
        let packs = scaling.scale.len();
        let zeros = || vec![Pack::ZERO; packs];
        let mut out = NormCoefficient { a: zeros(), b: zeros(), c: zeros() };
        let mut total = 0.0;
        for (lane, (sum, dot)) in sum.iter().zip(dot).enumerate() {
            let (block, i) = (lane / LANES, lane % LANES);
            let (scale, shift) = (f64::from(scaling.scale[block].0[i]), f64::from(scaling.shift[block].0[i]));
            let dot = scale * dot + shift * sum;
            let a = weight * scale;
            out.a[block].0[i] = a as f32;
            out.b[block].0[i] = (-a * scale * dot / count) as f32;
            out.c[block].0[i] = (-a * (sum + shift * dot) / count) as f32;
            total += dot;
        }
        (out, total)
    }

    /// Multiplies the gradient by a factor of each channel, `[block]`.
    pub fn scale_by(&mut self, factor: &[Pack]) {
        for part in [&mut self.a, &mut self.b, &mut self.c] {
            let lanes = floats_mut(part).iter_mut().zip(floats(factor));
            lanes.for_each(|(x, factor)| *x *= factor);
        }
    }
}
