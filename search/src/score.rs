//! Training-free scores of networks: an estimate of an architecture's quality in a second instead of a day.
//!
//! A score is one file with an implementation of [`Score`], and one row of the table below.

mod aggregate;
mod rank;

use std::fmt;

use milenas_models::fused::{BufferPool, FusedNetwork};
use milenas_models::{Genotype, Graph, NetworkConfig, Weights, assemble};

use crate::data::Batch;
use crate::{Error, Result};

pub use aggregate::Aggregate;
pub use naswot::log_determinant;
pub use rank::{aggregate, kendall, spearman};

/// Score of an untrained network. For all scores except costs, a larger value is better.
pub trait Score: fmt::Debug + Sync {
    /// Returns the name, as users write it and as tables have it.
    fn name(&self) -> &'static str;

    /// Returns one line of help, with the source.
    fn doc(&self) -> &'static str;

    /// Computes the score. A network that passes no signal scores minus infinity, except by a cost.
    ///
    /// # Errors
    /// Fails for a network that the CPU engine does not support.
    fn value(&self, subject: &mut Subject<'_>) -> Result<f64>;
}

/// Declares the table: a file and its scores, in the order of help and tables.
macro_rules! scores {
    ($($file:ident::{$($score:ident),+},)+) => {
        $(mod $file; pub use $file::{$($score),+};)+

        /// All scores, in the order of help and tables.
        pub static SCORES: &[&dyn Score] = &[$($(&$score),+),+];
    };
}

scores! {
    naswot::{Naswot},
    synflow::{Synflow},
    grad_norm::{GradNorm},
    jacob_cov::{JacobCov},
    swap::{Swap},
    az_nas::{AzExpressivity, AzProgressivity, AzTrainability},
    cost::{Params, Macs, LiveParams, LiveMacs, Convolutions},
}

/// Returns the score with a name.
///
/// # Errors
/// Fails for an unknown name, and names the nearest known one.
pub fn named(name: &str) -> milenas_models::Result<&'static dyn Score> {
    let found = SCORES.iter().copied().find(|score| score.name() == name);
    found.ok_or_else(|| {
        milenas_models::Error::unknown("metric", name, SCORES.iter().map(|score| score.name()))
    })
}

/// Network to score.
pub struct Subject<'a> {
    /// Architecture.
    pub genotype: &'a Genotype,
    /// Sizes of its network.
    pub config: &'a NetworkConfig,
    /// Seed of its weights.
    pub seed: u64,
    /// Its graph.
    pub graph: &'a Graph,
    /// Initial weights.
    pub weights: &'a Weights,
    /// Batch of images with labels.
    pub batch: &'a Batch,
    /// Buffers that the next network can reuse.
    pub buffers: &'a mut BufferPool,
}

impl Subject<'_> {
    /// Returns the network with its initial weights, compiled for the CPU engine.
    ///
    /// # Errors
    /// Fails for a network that the engine does not support.
    pub fn network(&self) -> Result<FusedNetwork> {
        let mut network = compiled(self.graph)?;
        network.tensors_mut().load(self.weights)?;
        Ok(network)
    }
}

/// Compiles a graph for the CPU engine.
fn compiled(graph: &Graph) -> Result<FusedNetwork> {
    FusedNetwork::new(graph).map_err(unsupported)
}

/// Returns the error for a graph that the CPU engine does not support.
fn unsupported(problem: String) -> Error {
    Error::Data {
        problem: format!(
            "it cannot be scored: {problem}. help: give cells of the darts or nasbench201 space"
        ),
    }
}

/// Returns whether a parameter is a weight of a convolution or linear layer, by its shape.
fn is_weight(shape: &[usize]) -> bool {
    shape.len() >= 2
}

/// Scorer of architectures on one batch, with weights from one seed, so that only the architecture differs.
pub struct Scorer {
    network: NetworkConfig,
    batch: Batch,
    seed: u64,
    buffers: BufferPool,
}

impl Scorer {
    /// Creates a scorer for networks of a given size; their classes and image size are those of the batch.
    pub fn new(network: NetworkConfig, batch: Batch, seed: u64) -> Self {
        Scorer { network, batch, seed, buffers: BufferPool::default() }
    }

    /// Returns the number of images in the batch.
    pub fn images(&self) -> usize {
        self.batch.len()
    }

    /// Returns the scores of an architecture, in the given order. A singular kernel, or a network that passes
    /// no signal, scores minus infinity.
    ///
    /// # Errors
    /// Fails for a network that cannot be assembled or is not supported by the CPU engine.
    pub fn score(&mut self, genotype: &Genotype, scores: &[&dyn Score]) -> Result<Vec<f64>> {
        let graph = assemble(genotype, &self.network)?;
        let weights = Weights::init(&graph, self.seed)?;
        let (config, batch, buffers) = (&self.network, &self.batch, &mut self.buffers);
        let (graph, weights) = (&graph, &weights);
        let seed = self.seed;
        let mut subject = Subject { genotype, config, seed, graph, weights, batch, buffers };
        scores.iter().map(|score| score.value(&mut subject)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_has_a_name_of_its_own_and_help() {
        for (i, score) in SCORES.iter().enumerate() {
            assert!(SCORES[..i].iter().all(|other| other.name() != score.name()), "{}", score.name());
            assert!(named(score.name()).unwrap().doc() == score.doc() && score.doc().len() > 10);
        }
        let error = named("naswott").unwrap_err().to_string();
        assert!(error.contains("naswot"), "{error}");
    }
}
