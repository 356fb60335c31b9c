//! Training-free scores of networks: an estimate of an architecture's quality in a second instead of a day.

mod gradients;
mod naswot;
mod rank;

use std::fmt;
use std::str::FromStr;

use milenas_models::fused::{BufferPool, FusedNetwork};
use milenas_models::{Genotype, NetworkConfig, Weights, assemble, cost};

use crate::Result;
use crate::data::Batch;

pub use naswot::log_determinant;
pub use rank::{aggregate, kendall, spearman};

/// Metric of an untrained network. For all metrics except costs, a larger value is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Log-determinant of the kernel of a batch's ReLU activation codes (Mellor et al., ICML 2021).
    Naswot,
    /// Logarithm of the synaptic flow through all weights (Tanaka et al., NeurIPS 2020; as Abdelfattah et al.,
    /// ICLR 2021).
    Synflow,
    /// Sum over layers of the norms of the weights' gradients (Abdelfattah et al., ICLR 2021).
    GradNorm,
    /// Score of low correlation between the gradients with respect to the images of a batch (first version of
    /// NASWOT).
    JacobCov,
    /// Number of parameters.
    Params,
    /// Multiply-accumulates per image.
    Macs,
    /// Number of convolutions in the cells.
    Convolutions,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Metric; 7] = [
        Metric::Naswot,
        Metric::Synflow,
        Metric::GradNorm,
        Metric::JacobCov,
        Metric::Params,
        Metric::Macs,
        Metric::Convolutions,
    ];

    /// Returns the name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Naswot => "naswot",
            Metric::Synflow => "synflow",
            Metric::GradNorm => "grad_norm",
            Metric::JacobCov => "jacob_cov",
            Metric::Params => "params",
            Metric::Macs => "macs",
            Metric::Convolutions => "convolutions",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = milenas_models::Error;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let found = Metric::ALL.into_iter().find(|metric| metric.name() == text);
        found.ok_or_else(|| milenas_models::Error::unknown("metric", text, Metric::ALL.map(Metric::name)))
    }
}

/// Scorer of architectures on one batch, with weights from one seed, so that only the architecture differs.
pub struct Scorer {
    network: NetworkConfig,
    batch: Batch,
    seed: u64,
    rooms: BufferPool,
}

impl Scorer {
    /// Creates a scorer for networks of a given size; their classes and image size are those of the batch.
    pub fn new(network: NetworkConfig, batch: Batch, seed: u64) -> Self {
        Scorer { network, batch, seed, rooms: BufferPool::default() }
    }

    /// Returns the number of images in the batch.
    pub fn images(&self) -> usize {
        self.batch.len()
    }

    /// Returns the metrics of an architecture, in the given order. A singular kernel, or a network that passes
    /// no signal, scores minus infinity.
    ///
    /// # Errors
    /// Fails for a network that cannot be assembled or is not supported by the CPU engine.
    pub fn score(&mut self, genotype: &Genotype, metrics: &[Metric]) -> Result<Vec<f64>> {
        let graph = assemble(genotype, &self.network)?;
        let weights = Weights::init(&graph, self.seed)?;
        let fresh = || -> Result<FusedNetwork> {
            let mut network = gradients::fast(&graph)?;
            network.tensors_mut().load(&weights)?;
            Ok(network)
        };
        let one = |metric: &Metric| -> Result<f64> {
            Ok(match metric {
                Metric::Naswot => log_determinant(&fresh()?.codes(&self.batch.numbers(), &mut self.rooms)?),
                Metric::Synflow => gradients::synflow(&graph, &weights)?,
                Metric::GradNorm => gradients::grad_norm(&mut fresh()?, &self.batch)?,
                Metric::JacobCov => gradients::jacob_cov(&mut fresh()?, &self.batch)?,
                Metric::Params => cost(&graph).params as f64,
                Metric::Macs => cost(&graph).macs as f64,
                Metric::Convolutions => genotype.convolutions().iter().sum::<usize>() as f64,
            })
        };
        metrics.iter().map(one).collect()
    }
}
