//! Supernet of any space as one compiled network, in whose sums the mixture multiplies the results of the candidates.

use milenas_models::Weights;
use milenas_models::fused::FusedNetwork;
use milenas_models::space::ChoiceGraph;

use super::{GradRequest, PassResult, Rows, Supernet, SupernetConfig, UpdateFn};
use crate::Result;
use crate::data::Batch;

/// Compiled supernet.
pub struct CompiledSupernet {
    config: SupernetConfig,
    network: FusedNetwork,
    /// Site and candidate of each path, in the order of the network.
    places: Vec<Place>,
    /// Number of candidates of each site.
    candidates: Vec<usize>,
}

struct Place {
    site: usize,
    candidate: usize,
}

impl CompiledSupernet {
    /// Compiles the supernet of a space, with weights of zero.
    ///
    /// # Errors
    /// A description of the node that the engine does not support.
    pub fn new(config: SupernetConfig, choices: &ChoiceGraph) -> std::result::Result<Self, String> {
        let (mut places, mut paths) = (Vec::new(), Vec::new());
        for (site, choice) in choices.sites.iter().enumerate() {
            for (candidate, wires) in choice.candidates.iter().enumerate() {
                for wire in wires {
                    places.push(Place { site, candidate });
                    paths.push(*wire);
                }
            }
        }
        let network = FusedNetwork::mixed(&choices.graph, &paths)?;
        let candidates = choices.sites.iter().map(|site| site.candidates.len()).collect();
        Ok(CompiledSupernet { config, network, places, candidates })
    }

    fn flat(&self, mixture: &[Vec<f32>]) -> Vec<f32> {
        self.places.iter().map(|place| mixture[place.site][place.candidate]).collect()
    }
}

impl Supernet for CompiledSupernet {
    fn config(&self) -> &SupernetConfig {
        &self.config
    }

    fn evaluate_sites(
        &mut self,
        batch: &Batch,
        mixture: &[Vec<f32>],
        want: GradRequest,
    ) -> Result<PassResult> {
        let weights = self.flat(mixture);
        let (loss, correct, found) =
            self.network.train_step_mixed(&batch.numbers(), &batch.labels, &weights, want.weights)?;
        let mut mixture_gradient: Rows<f64> = self.candidates.iter().map(|count| vec![0.0; *count]).collect();
        if want.mixture {
            for (Place { site, candidate }, gradient) in self.places.iter().zip(found) {
                mixture_gradient[*site][*candidate] += gradient;
            }
        }
        Ok(PassResult { loss, correct, mixture_gradient })
    }

    fn predict_sites(&mut self, batch: &Batch, mixture: &[Vec<f32>]) -> Result<Vec<f32>> {
        let weights = self.flat(mixture);
        Ok(self.network.predict_mixed(&batch.numbers(), &weights)?)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        Ok(self.network.tensors().squared_gradient_norm().sqrt())
    }

    fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        Ok(self.network.tensors().gradient(name)?)
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        self.network.tensors_mut().for_each_parameter(step);
        Ok(())
    }

    fn weights(&mut self) -> Result<Weights> {
        Ok(self.network.tensors().to_weights()?)
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        Supernet::weights(self)?.check_same(weights)?;
        Ok(self.network.tensors_mut().load(weights)?)
    }
}
