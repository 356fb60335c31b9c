//! A supernet as one network: mixture weights multiply wires of the graph, and have gradients.

use crate::graph::{Graph, Value};
use crate::kernels::cpu::Level;
use crate::{Error, Result};

use super::super::parameters::Gradients;
use super::backward::BackwardGoal;
use super::{FusedNetwork, Precision};

impl FusedNetwork {
    /// Compiles a graph in which mixture weights multiply `paths`. Each path is read by one sum.
    ///
    /// # Errors
    /// A description of the node that this engine does not support.
    pub fn mixed(graph: &Graph, paths: &[Value]) -> std::result::Result<FusedNetwork, String> {
        FusedNetwork::compiled(graph, paths, &[], Level::best())
    }

    /// Runs a [`train_step`](Self::train_step) of the mixture. The third result is the gradient of the mixture
    /// weights, in the order of the paths. A path of weight 0 is skipped, and its gradients are zero. Without
    /// `weights`, the gradients of the network's weights are unchanged.
    ///
    /// # Errors
    /// [`Error::Value`] if the number of pixels, the labels or the number of mixture weights do not fit the network.
    pub fn train_step_mixed(
        &mut self,
        images: &[f32],
        labels: &[u32],
        mixture: &[f32],
        weights: bool,
    ) -> Result<(f64, usize, Vec<f64>)> {
        let batch = self.check_labels(images, labels)?;
        self.mix(mixture)?;
        let (loss, correct) = rayon::scope(|_| {
            self.forward(images, batch, false);
            let (loss, correct) = self.program.head.loss(labels, 0.0);
            if weights {
                self.backward(images, batch, false);
            } else {
                let mut unwanted = self.take_unwanted();
                self.backward_to(images, batch, false, &mut unwanted, BackwardGoal::Nothing);
                self.unwanted = unwanted;
            }
            (loss, correct)
        });
        let gradient = self.program.paths.iter().map(|&step| self.slopes[step]).collect();
        Ok((loss, correct, gradient))
    }

    /// Returns the logits of the mixture, like [`predict`](Self::predict).
    ///
    /// # Errors
    /// [`Error::Value`] if the number of pixels or of mixture weights does not fit the network.
    pub fn predict_mixed(&mut self, images: &[f32], mixture: &[f32]) -> Result<Vec<f32>> {
        self.mix(mixture)?;
        self.prepare_evaluation(Precision::Float32);
        Ok(self.infer(images)?.into_iter().flat_map(|found| found.logits).collect())
    }

    /// Returns a buffer for gradients that the caller does not need.
    pub(super) fn take_unwanted(&mut self) -> Gradients {
        match self.unwanted.values.is_empty() {
            true => Gradients::new(&self.program.tensors.parameters),
            false => std::mem::take(&mut self.unwanted),
        }
    }

    fn mix(&mut self, mixture: &[f32]) -> Result<()> {
        if mixture.len() != self.program.paths.len() {
            let (found, expected) = (mixture.len().to_string(), self.program.paths.len().to_string());
            return Err(Error::Value { what: "number of mixture weights".into(), found, expected });
        }
        self.mixes = true;
        self.slopes.fill(0.0);
        self.factors.iter_mut().for_each(Vec::clear);
        for (&step, &weight) in self.program.paths.iter().zip(mixture) {
            self.factors[step].push(weight);
        }
        Ok(())
    }
}
