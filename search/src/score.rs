//! Scores of untrained networks: what an architecture promises, in a second instead of a day.

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

/// A score; of all but none is more better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The log-determinant of how alike the rectifiers' codes of a batch are (Mellor et al., ICML 2021).
    Naswot,
    /// The logarithm of what flows through all weights (Tanaka et al., NeurIPS 2020; as Abdelfattah et al., ICLR 2021).
    Synflow,
    /// The norms of the gradients of all weights, summed over layers (Abdelfattah et al., ICLR 2021).
    GradNorm,
    /// How little the gradients by the images of a batch correlate (NASWOT's first version).
    JacobCov,
    /// Parameters.
    Params,
    /// Multiply-accumulates of an image.
    Macs,
    /// Convolutions of the cells.
    Convolutions,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Metric; 7] = [
        Metric::Naswot,
        Metric::Synflow,
        Metric::GradNorm,
        Metric::JacobCov,
        Metric::Params,
        Metric::Macs,
        Metric::Convolutions,
    ];

    /// Its name on the command line and in tables.
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

/// Scores architectures on one batch, with weights from one seed: what differs is the architecture.
pub struct Scorer {
    network: NetworkConfig,
    batch: Batch,
    seed: u64,
    rooms: BufferPool,
}

impl Scorer {
    /// For networks of this size, whose classes and images are those of the batch.
    pub fn new(network: NetworkConfig, batch: Batch, seed: u64) -> Self {
        Scorer { network, batch, seed, rooms: BufferPool::default() }
    }

    /// Images of the batch.
    pub fn images(&self) -> usize {
        self.batch.len()
    }

    /// The metrics of an architecture, in their order. A singular kernel or a network that nothing flows through scores minus
    /// infinity.
    ///
    /// # Errors
    /// A network that cannot be assembled, or that has no fast form.
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
