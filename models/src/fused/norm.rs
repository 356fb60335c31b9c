//! BatchNorms of the network: current scaling, running statistics, and the coefficients of their gradients.

use crate::kernels::cpu::norm::{NormCoefficient, NormMoments, Scaling, total};
use crate::kernels::cpu::simd::{floats, floats_mut};
use crate::kernels::cpu::{Channels, Pack};

use super::parameters::{Gradients, Id, Parameters};

/// Weight of a batch's statistics in the running statistics (PyTorch's default).
const MOMENTUM: f64 = 0.1;

/// Running means and variances by name, in network order.
#[derive(Default)]
pub struct Statistics {
    /// Names, in network order.
    pub names: Vec<String>,
    /// Values of each name.
    pub values: Vec<Vec<f32>>,
}

/// A BatchNorm without an affine part.
#[derive(Clone)]
pub struct Norm {
    /// Index of the running mean; the variance is next.
    statistics: usize,
    /// Scaling from the last moments.
    pub scaling: Scaling,
    /// Coefficients of the gradient in the current backward pass.
    pub slope: NormCoefficient,
}

impl Norm {
    /// Returns a norm with running statistics `prefix.running_mean` and `prefix.running_var`.
    pub fn new(prefix: &str, channels: usize, statistics: &mut Statistics) -> Norm {
        Norm::named(["running_mean", "running_var"].map(|x| format!("{prefix}.{x}")), channels, statistics)
    }

    /// Returns a norm with running statistics of the given names: mean, variance.
    pub fn named(names: [String; 2], channels: usize, statistics: &mut Statistics) -> Norm {
        let index = statistics.names.len();
        for (name, value) in names.into_iter().zip([0.0, 1.0]) {
            statistics.names.push(name);
            statistics.values.push(vec![value; channels]);
        }
        let scaling = Scaling::identity(Channels::one(channels).packs());
        Norm { statistics: index, scaling, slope: NormCoefficient::default() }
    }

    /// Normalises with the moments of a batch over `count` values, and updates the running statistics.
    pub fn train(&mut self, moments: &NormMoments, count: f64, statistics: &mut Statistics) {
        self.scaling.normalise(moments);
        let unbiased = count / (count - 1.0).max(1.0);
        let means = statistics.values[self.statistics].iter_mut().zip(&moments.mean);
        means.for_each(|(running, x)| blend(running, *x));
        let variances = statistics.values[self.statistics + 1].iter_mut().zip(&moments.variance);
        variances.for_each(|(running, x)| blend(running, x * unbiased));
    }

    /// Normalises with the running statistics.
    pub fn evaluate(&mut self, statistics: &Statistics) {
        let of = |i: usize| statistics.values[i].iter().map(|x| f64::from(*x)).collect();
        self.scaling.normalise(&NormMoments { mean: of(self.statistics), variance: of(self.statistics + 1) });
    }
}

/// The operation after a convolution: a BatchNorm with weight and bias, the bias of a folded BatchNorm, or the
/// identity.
#[derive(Clone)]
pub struct AffineNorm {
    channels: usize,
    norm: Option<Norm>,
    gamma: Option<Id>,
    beta: Option<Id>,
    /// The whole operation as a factor and an addend.
    pub scaling: Scaling,
    /// Coefficients of the gradient of the convolution's output, given that of the norm's output.
    pub slope: NormCoefficient,
}

impl AffineNorm {
    /// Returns a norm; `gamma` and `beta` are its weight and bias, vectors of the channels.
    pub fn new(norm: Option<Norm>, gamma: Option<Id>, beta: Option<Id>, channels: Channels) -> AffineNorm {
        let (packs, channels) = (channels.packs(), channels.count());
        AffineNorm {
            channels,
            norm,
            gamma,
            beta,
            scaling: Scaling::identity(packs),
            slope: NormCoefficient::default(),
        }
    }

    /// Number of channels of the output.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Returns the weight and the bias.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.gamma.into_iter().chain(self.beta)
    }

    /// Whether the operation is a BatchNorm, which needs the batch's moments.
    pub fn is_batch_norm(&self) -> bool {
        self.norm.is_some()
    }

    /// Normalises with the moments of a batch over `count` values, and updates the running statistics.
    pub fn train(&mut self, p: &Parameters, moments: &NormMoments, count: f64, statistics: &mut Statistics) {
        if let Some(norm) = &mut self.norm {
            norm.train(moments, count, statistics);
        }
        self.combine(p);
    }

    /// Normalises with the running statistics.
    pub fn evaluate(&mut self, p: &Parameters, statistics: &Statistics) {
        if let Some(norm) = &mut self.norm {
            norm.evaluate(statistics);
        }
        self.combine(p);
    }

    fn combine(&mut self, p: &Parameters) {
        if let Some(norm) = &self.norm {
            self.scaling.clone_from(&norm.scaling);
        }
        let Scaling { scale, shift } = &mut self.scaling;
        if let Some(gamma) = self.gamma {
            for map in [&mut *scale, &mut *shift] {
                let gamma = floats(&p.values[gamma]);
                floats_mut(map).iter_mut().zip(gamma).for_each(|(x, gamma)| *x *= gamma);
            }
        }
        if let Some(beta) = self.beta {
            let shift = floats_mut(shift).iter_mut().zip(floats(&p.values[beta]));
            match self.norm {
                Some(_) => shift.for_each(|(x, beta)| *x += beta),
                None => shift.for_each(|(x, beta)| *x = *beta),
            }
        }
    }

    /// Computes the gradient coefficients, and the gradients of weight and bias. Inputs are the sums over a batch of
    /// the output's gradient, and of its products with the convolution's output.
    pub fn backward(
        &mut self,
        p: &Parameters,
        sum: &[f64],
        dot: &[f64],
        count: f64,
        weights: &mut Gradients,
    ) {
        if let Some(beta) = self.beta {
            let out = floats_mut(&mut weights.values[beta]).iter_mut();
            out.zip(sum).for_each(|(x, sum)| *x = *sum as f32);
        }
        let Some(norm) = &self.norm else {
            let [a, zero] = [1.0, 0.0].map(|x| vec![Pack([x; 16]); self.scaling.scale.len()]);
            self.slope = NormCoefficient { a, b: zero.clone(), c: zero };
            return;
        };
        self.slope = NormCoefficient::of(&norm.scaling, 1.0, sum, dot, count).0;
        if let Some(gamma) = self.gamma {
            let (scale, shift) = (floats(&norm.scaling.scale), floats(&norm.scaling.shift));
            for (i, x) in floats_mut(&mut weights.values[gamma]).iter_mut().enumerate() {
                *x = (f64::from(scale[i]) * dot[i] + f64::from(shift[i]) * sum[i]) as f32;
            }
            self.slope.scale_by(&p.values[gamma]);
        }
    }
}

fn blend(running: &mut f32, x: f64) {
    *running = (f64::from(*running) * (1.0 - MOMENTUM) + x * MOMENTUM) as f32;
}

/// Returns the totals over images, lane by lane, of the sums with index `which`. `sums` has `len` packs per image,
/// `[which][block]` with `packs` blocks.
pub fn totals(sums: &[Pack], len: usize, which: usize, packs: usize) -> Vec<f64> {
    total(sums.chunks_exact(len).map(|image| &image[which * packs..][..packs]), packs)
}
