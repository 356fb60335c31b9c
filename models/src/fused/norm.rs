//! The network's BatchNorms: current scaling, running statistics, and the coefficients of their gradients.

use crate::kernels::cpu::norm::{NormCoefficient, NormMoments, Scaling, total};
use crate::kernels::cpu::simd::{floats, floats_mut};
use crate::kernels::cpu::{Channels, Pack};

use super::parameters::{Gradients, Id, Parameters};

/// How much of a batch's statistics goes into the running ones (PyTorch's default).
const MOMENTUM: f64 = 0.1;

/// Running means and variances by name, in network order.
#[derive(Default)]
pub struct Statistics {
    /// In network order.
    pub names: Vec<String>,
    /// By the place of the name.
    pub values: Vec<Vec<f32>>,
}

/// One BatchNorm without an affine part.
#[derive(Clone)]
pub struct Norm {
    /// Of the running mean; the variance comes next.
    statistics: usize,
    /// From the moments last given.
    pub scaling: Scaling,
    /// Of the backward pass at work.
    pub slope: NormCoefficient,
}

impl Norm {
    /// With running statistics called `prefix.running_mean` and `prefix.running_var`.
    pub fn new(prefix: &str, channels: usize, statistics: &mut Statistics) -> Norm {
        Norm::named(["running_mean", "running_var"].map(|x| format!("{prefix}.{x}")), channels, statistics)
    }

    /// With running statistics of these names: mean, variance.
    pub fn named(names: [String; 2], channels: usize, statistics: &mut Statistics) -> Norm {
        let index = statistics.names.len();
        for (name, value) in names.into_iter().zip([0.0, 1.0]) {
            statistics.names.push(name);
            statistics.values.push(vec![value; channels]);
        }
        let scaling = Scaling::identity(Channels::one(channels).packs());
        Norm { statistics: index, scaling, slope: NormCoefficient::default() }
    }

    /// Normalises by a batch's own moments, over `count` values, and moves the running ones.
    pub fn train(&mut self, moments: &NormMoments, count: f64, statistics: &mut Statistics) {
        self.scaling.normalise(moments);
        let unbiased = count / (count - 1.0).max(1.0);
        let means = statistics.values[self.statistics].iter_mut().zip(&moments.mean);
        means.for_each(|(running, x)| blend(running, *x));
        let variances = statistics.values[self.statistics + 1].iter_mut().zip(&moments.variance);
        variances.for_each(|(running, x)| blend(running, x * unbiased));
    }

    /// Normalises by the running moments.
    pub fn evaluate(&mut self, statistics: &Statistics) {
        let of = |i: usize| statistics.values[i].iter().map(|x| f64::from(*x)).collect();
        self.scaling.normalise(&NormMoments { mean: of(self.statistics), variance: of(self.statistics + 1) });
    }
}

/// What follows a convolution: a BatchNorm with weight and bias, or the bias that a compiler has left of it, or nothing.
#[derive(Clone)]
pub struct AffineNorm {
    channels: usize,
    norm: Option<Norm>,
    gamma: Option<Id>,
    beta: Option<Id>,
    /// All of it as a factor and a term.
    pub scaling: Scaling,
    /// The gradient of the convolution's output for that of the norm's.
    pub slope: NormCoefficient,
}

impl AffineNorm {
    /// `gamma` and `beta` are the weight and the bias, vectors of the channels.
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

    /// Channels of the output.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Its weight and its bias.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.gamma.into_iter().chain(self.beta)
    }

    /// Whether the batch's moments are of use.
    pub fn is_batch_norm(&self) -> bool {
        self.norm.is_some()
    }

    /// Normalises by a batch's own moments, over `count` values, and moves the running ones.
    pub fn train(&mut self, p: &Parameters, moments: &NormMoments, count: f64, statistics: &mut Statistics) {
        if let Some(norm) = &mut self.norm {
            norm.train(moments, count, statistics);
        }
        self.combine(p);
    }

    /// Normalises by the running moments.
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

    /// Sets the slope, and the gradients of weight and bias, from the sums over a batch of the output's gradient, and of
    /// its products with the convolution's output.
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

/// Lane by lane, the totals over images of the sums `which`: `sums` is `[image]` of `len` packs, in each
/// `[which][block]` of `packs` blocks.
pub fn totals(sums: &[Pack], len: usize, which: usize, packs: usize) -> Vec<f64> {
    total(sums.chunks_exact(len).map(|image| &image[which * packs..][..packs]), packs)
}
