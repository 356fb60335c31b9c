//! Weighted sum of all candidates.

use milenas_models::Rng;

use super::{PassMixture, Relaxation, SearchProgress};
use crate::config::settings::settings;
use crate::supernet::{Alphas, Rows, SupernetConfig};

settings! {
    /// Softmax of the logits of an edge, the same for all cells of a kind. It has no settings.
    #[derive(Copy)]
    pub struct Softmax {}
}

impl Relaxation for Softmax {
    fn source(&self) -> &'static str {
        "DARTS, equation 2 (Liu et al., ICLR 2019)"
    }

    fn sample(
        &self,
        alphas: &Alphas,
        _: &SupernetConfig,
        _: SearchProgress,
        _: &mut dyn FnMut() -> Rng,
    ) -> Box<dyn PassMixture> {
        Box::new(SoftmaxMixture(alphas.mixture()))
    }

    fn is_softmax(&self) -> bool {
        true
    }
}

struct SoftmaxMixture(Rows);

impl PassMixture for SoftmaxMixture {
    fn sites(&self, config: &SupernetConfig) -> Rows {
        config.for_sites(&self.0)
    }

    fn gradient(&self, alphas: &Alphas, config: &SupernetConfig, by_sites: &[Vec<f64>]) -> Alphas {
        alphas.gradient(&config.by_choice(by_sites))
    }
}
