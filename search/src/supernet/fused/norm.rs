//! The network's BatchNorms: current scaling, running statistics, and the coefficients of their gradients.

use milenas_models::kernels::blocked::norm::{Moments, Scaling, Slope, total};
use milenas_models::kernels::blocked::{Channels, Pack};

/// How much of a batch's statistics goes into the running ones (PyTorch's default).
const MOMENTUM: f64 = 0.1;

/// Running means and variances by name, in network order.
#[derive(Default)]
pub(super) struct Statistics {
    pub(super) names: Vec<String>,
    pub(super) values: Vec<Vec<f32>>,
}

/// One BatchNorm without an affine part.
pub(super) struct Norm {
    /// Of the running mean; the variance comes next.
    statistics: usize,
    pub(super) scaling: Scaling,
    pub(super) slope: Slope,
}

impl Norm {
    pub(super) fn new(prefix: &str, channels: usize, statistics: &mut Statistics) -> Norm {
        let index = statistics.names.len();
        for (name, value) in [("running_mean", 0.0), ("running_var", 1.0)] {
            statistics.names.push(format!("{prefix}.{name}"));
            statistics.values.push(vec![value; channels]);
        }
        let scaling = Scaling::identity(Channels::one(channels).packs());
        Norm { statistics: index, scaling, slope: Slope::default() }
    }

    /// Normalises by a batch's own moments, over `count` values, and moves the running ones.
    pub(super) fn train(&mut self, moments: &Moments, count: f64, statistics: &mut Statistics) {
        self.scaling.normalise(moments);
        let unbiased = count / (count - 1.0).max(1.0);
        let means = statistics.values[self.statistics].iter_mut().zip(&moments.mean);
        means.for_each(|(running, x)| blend(running, *x));
        let variances = statistics.values[self.statistics + 1].iter_mut().zip(&moments.variance);
        variances.for_each(|(running, x)| blend(running, x * unbiased));
    }

    /// Normalises by the running moments.
    pub(super) fn evaluate(&mut self, statistics: &Statistics) {
        let of = |i: usize| statistics.values[i].iter().map(|x| f64::from(*x)).collect();
        self.scaling.normalise(&Moments { mean: of(self.statistics), variance: of(self.statistics + 1) });
    }
}

fn blend(running: &mut f32, x: f64) {
    *running = (f64::from(*running) * (1.0 - MOMENTUM) + x * MOMENTUM) as f32;
}

/// Lane by lane, the totals over images of the sums `which`: `sums` is `[image]` of `len` packs, in each
/// `[which][block]` of `packs` blocks.
pub(super) fn totals(sums: &[Pack], len: usize, which: usize, packs: usize) -> Vec<f64> {
    total(sums.chunks_exact(len).map(|image| &image[which * packs..][..packs]), packs)
}
