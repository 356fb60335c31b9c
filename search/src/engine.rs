//! What a derived network runs on: the fused passes where they cover it, else the executor.

use candle_core::Tensor;
use milenas_models::fused::Network;
use milenas_models::{Executor, Graph, Mode, Weights};

use crate::Result;
use crate::data::Batch;
use crate::loss::cross_entropy;
use crate::optim::{Sgd, SgdConfig, clip_factor, squared_norm};

/// A network with its weights.
pub struct Engine<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    fused: Option<Network>,
    /// Of the executor's last loss, by name.
    gradients: Vec<(&'a str, Vec<f32>)>,
}

impl<'a> Engine<'a> {
    /// # Errors
    /// Weights that the graph lacks.
    pub fn new(graph: &'a Graph, weights: &'a Weights) -> Result<Self> {
        let mut fused = Network::new(graph).ok();
        if let Some(network) = &mut fused {
            network.tensors_mut().load(weights)?;
        }
        Ok(Engine { graph, weights, fused, gradients: Vec::new() })
    }

    /// The fused network, if there is one.
    pub fn fused(&mut self) -> Option<&mut Network> {
        self.fused.as_mut()
    }

    /// Mean loss of a batch in training mode, and the number of right answers; leaves the gradients for
    /// [`step`](Self::step).
    pub fn gradients(&mut self, batch: &Batch) -> Result<(f64, usize)> {
        if let Some(network) = &mut self.fused {
            return Ok(network.descend(&batch.images, &batch.labels)?);
        }
        let logits = Executor::new(self.graph, self.weights).run(&[batch.tensor()?], Mode::Train)?.remove(0);
        let (loss, right) = cross_entropy(&logits, &batch.labels)?;
        let store = loss.backward()?;
        self.gradients.clear();
        for (name, var) in self.weights.trainable() {
            let gradient = store.get(var).map(|g| g.flatten_all()?.to_vec1()).transpose()?;
            self.gradients.push((name, gradient.unwrap_or_else(|| vec![0.0f32; var.elem_count()])));
        }
        Ok((f64::from(loss.to_scalar::<f32>()?), right))
    }

    /// One step of every trainable tensor; one that the loss does not reach only decays.
    pub fn step(&mut self, sgd: &mut Sgd, config: &SgdConfig, lr: f64) -> Result<()> {
        if let Some(network) = &mut self.fused {
            let scale = clip_factor(network.tensors().squared_gradient_norm().sqrt(), config.clip);
            network.tensors_mut().for_each_parameter(|index, w, g| sgd.step(config, lr, scale, index, w, g));
            return Ok(());
        }
        let norm = self.gradients.iter().map(|(_, g)| squared_norm(g)).sum::<f64>().sqrt();
        let scale = clip_factor(norm, config.clip);
        for (index, (name, gradient)) in self.gradients.iter().enumerate() {
            self.weights.modify(name, |w| sgd.step(config, lr, scale, index, w, gradient))?;
        }
        Ok(())
    }

    /// Puts the weights that it holds back where they came from.
    pub fn store(&self) -> Result<()> {
        match &self.fused {
            Some(network) => Ok(network.tensors().store(self.weights)?),
            None => Ok(()),
        }
    }

    /// Logits of a batch in evaluation mode, a row per image.
    pub fn predict(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        if let Some(network) = &mut self.fused {
            let logits = network.predict(&batch.images)?;
            return Ok(logits.chunks_exact(logits.len() / batch.len()).map(<[f32]>::to_vec).collect());
        }
        let images: Tensor = batch.tensor()?;
        let logits = Executor::new(self.graph, self.weights).run(&[images], Mode::Eval)?.remove(0);
        Ok(logits.to_vec2()?)
    }
}
