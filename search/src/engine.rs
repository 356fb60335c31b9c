//! Execution of a derived network: on a device if there is one, else by the fused passes if they support it,
//! else by the executor.

mod cuda;

use std::collections::HashMap;

use candle_core::{Device as Place, Tensor};
use milenas_models::fused::{FusedNetwork, Regularisers};
use milenas_models::graph::Value;
use milenas_models::kernels::cuda::Device;
use milenas_models::{Executor, Graph, Mode, Trainable, Weights};

use self::cuda::CudaEngine;
use crate::Result;
use crate::data::Batch;
use crate::loss::cross_entropy;
use crate::optim::{Ema, Sgd, SgdConfig, clip_factor, squared_norm};

/// Device that a network computes on; `None` for the CPU.
pub type MaybeDevice<'a> = Option<&'a mut (dyn Device + 'static)>;

/// Network with its weights and a backend.
pub struct Engine<'a> {
    graph: &'a Graph,
    paths: &'a [Value],
    weights: &'a Weights,
    form: Backend<'a>,
    slow: Option<String>,
}

enum Backend<'a> {
    Cuda(Box<CudaEngine>, &'a mut (dyn Device + 'static)),
    Fused(Box<FusedNetwork>),
    /// Gradients of the last loss, by name.
    Executor(Vec<(&'a str, Vec<f32>)>),
}

impl<'a> Engine<'a> {
    /// Creates an engine on the CPU.
    ///
    /// # Errors
    /// Fails for missing weights.
    pub fn new(graph: &'a Graph, weights: &'a Weights) -> Result<Self> {
        Self::on_cpu(FusedNetwork::new(graph), graph, &[], weights)
    }

    /// Creates an engine for a training, with an auxiliary head and droppable paths.
    ///
    /// # Errors
    /// Fails for missing weights, and for an operation that the device has no kernel for.
    pub fn for_training(
        network: &'a Trainable,
        weights: &'a Weights,
        device: MaybeDevice<'a>,
    ) -> Result<Self> {
        let (graph, paths) = (&network.graph, &network.paths[..]);
        let Some(device) = device else {
            return Self::on_cpu(FusedNetwork::for_training(network), graph, paths, weights);
        };
        let mut network = CudaEngine::new(network)?;
        network.load(weights)?;
        Ok(Engine { graph, paths, weights, form: Backend::Cuda(Box::new(network), device), slow: None })
    }

    fn on_cpu(
        fused: std::result::Result<FusedNetwork, String>,
        graph: &'a Graph,
        paths: &'a [Value],
        weights: &'a Weights,
    ) -> Result<Self> {
        let (form, slow) = match fused {
            Ok(mut network) => {
                network.tensors_mut().load(weights)?;
                (Backend::Fused(Box::new(network)), None)
            }
            Err(reason) => (Backend::Executor(Vec::new()), Some(reason)),
        };
        Ok(Engine { graph, paths, weights, form, slow })
    }

    /// Returns why the network runs on the executor, several times slower than the fused passes; `None` if it does not.
    pub fn slow(&self) -> Option<&str> {
        self.slow.as_deref()
    }

    /// Returns the fused network, if it is the backend.
    pub fn fused(&mut self) -> Option<&mut FusedNetwork> {
        match &mut self.form {
            Backend::Fused(network) => Some(network),
            Backend::Cuda(..) | Backend::Executor(_) => None,
        }
    }

    /// Returns whether the engine moves and normalises images itself, so that batches of bytes are faster.
    pub fn takes_bytes(&self) -> bool {
        matches!(self.form, Backend::Cuda(..))
    }

    /// Returns the number of droppable paths.
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Returns the loss of a batch in training mode, including the auxiliary head's, and the number of correct
    /// predictions. The gradients are kept for [`step`](Self::step).
    pub fn gradients(&mut self, batch: &Batch, extra: &Regularisers<'_>) -> Result<(f64, usize)> {
        let gradients = match &mut self.form {
            Backend::Cuda(network, device) => return Ok(network.gradients(*device, batch, extra)?),
            Backend::Fused(network) => {
                return Ok(network.train_step_with(&batch.numbers(), &batch.labels, extra)?);
            }
            Backend::Executor(gradients) => gradients,
        };
        let mut factors = HashMap::new();
        for (path, factor) in self.paths.iter().zip(extra.paths.chunks_exact(batch.len())) {
            factors.insert(*path, Tensor::from_slice(factor, (batch.len(), 1, 1, 1), &Place::Cpu)?);
        }
        let executor = Executor::new(self.graph, self.weights).with_factors(factors);
        let results = executor.run(&[batch.tensor()?], Mode::Train)?;
        let (mut loss, right) = cross_entropy(&results[0], &batch.labels, extra.smoothing)?;
        if let (true, Some(logits)) = (extra.auxiliary > 0.0, results.get(1)) {
            let (second, _) = cross_entropy(logits, &batch.labels, extra.smoothing)?;
            loss = (loss + (second * extra.auxiliary)?)?;
        }
        let store = loss.backward()?;
        gradients.clear();
        for (name, var) in self.weights.trainable() {
            let gradient = store.get(var).map(|g| g.flatten_all()?.to_vec1()).transpose()?;
            gradients.push((name, gradient.unwrap_or_else(|| vec![0.0f32; var.elem_count()])));
        }
        Ok((f64::from(loss.to_scalar::<f32>()?), right))
    }

    /// Updates every trainable tensor. A tensor without a gradient only decays. A device keeps the velocities
    /// until [`download_velocities`](Self::download_velocities).
    pub fn step(&mut self, sgd: &mut Sgd, config: &SgdConfig, lr: f64) -> Result<()> {
        match &mut self.form {
            Backend::Cuda(network, device) => Ok(network.sgd_step(*device, sgd, config, lr)?),
            Backend::Fused(network) => {
                let scale = clip_factor(network.tensors().squared_gradient_norm().sqrt(), config.clip);
                let step = |index, w: &mut [f32], g: &[f32]| sgd.step(config, lr, scale, index, w, g);
                network.tensors_mut().for_each_parameter(step);
                Ok(())
            }
            Backend::Executor(gradients) => {
                let norm = gradients.iter().map(|(_, g)| squared_norm(g)).sum::<f64>().sqrt();
                let scale = clip_factor(norm, config.clip);
                for (index, (name, gradient)) in gradients.iter().enumerate() {
                    self.weights.modify(name, |w| sgd.step(config, lr, scale, index, w, gradient))?;
                }
                Ok(())
            }
        }
    }

    /// Copies the velocities of the last steps into `sgd`.
    pub fn download_velocities(&mut self, sgd: &mut Sgd) -> Result<()> {
        match &mut self.form {
            Backend::Cuda(network, device) => Ok(network.download_velocities(*device, sgd)?),
            Backend::Fused(_) | Backend::Executor(_) => Ok(()),
        }
    }

    /// Adds every weight and running statistic to the moving average.
    pub fn average(&mut self, ema: &mut Ema, decay: f64) -> Result<()> {
        let decay = ema.begin(decay);
        self.each(false, |index, w| ema.see(decay, index, w))
    }

    /// Swaps every weight and running statistic with its moving average.
    pub fn swap(&mut self, ema: &mut Ema) -> Result<()> {
        match ema.state() {
            (0, _) => Ok(()),
            _ => self.each(true, |index, w| ema.swap(index, w)),
        }
    }

    /// Calls `visit` for all tensors, each with a unique index.
    fn each(&mut self, changes: bool, mut visit: impl FnMut(usize, &mut [f32])) -> Result<()> {
        match &mut self.form {
            Backend::Cuda(network, device) => Ok(network.each(*device, changes, visit)?),
            Backend::Fused(network) => {
                let mut count = 0;
                let tensors = network.tensors_mut();
                tensors.for_each_parameter(|index, w, _| {
                    count = count.max(index + 1);
                    visit(index, w);
                });
                let statistics = tensors.statistics.values.iter_mut().enumerate();
                statistics.for_each(|(index, x)| visit(count + index, x));
                Ok(())
            }
            Backend::Executor(_) => {
                for (index, (name, _)) in self.weights.iter().enumerate() {
                    self.weights.modify(name, |w| visit(index, w))?;
                }
                Ok(())
            }
        }
    }

    /// Copies the backend's weights back into the weights of the caller.
    pub fn store(&mut self) -> Result<()> {
        match &mut self.form {
            Backend::Cuda(network, device) => Ok(network.store(*device, self.weights)?),
            Backend::Fused(network) => Ok(network.tensors().store(self.weights)?),
            Backend::Executor(_) => Ok(()),
        }
    }

    /// Returns the logits of a batch in evaluation mode, one row per image.
    pub fn predict(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        let logits = match &mut self.form {
            Backend::Cuda(network, device) => network.predict(*device, batch)?,
            Backend::Fused(network) => network.predict(&batch.numbers())?,
            Backend::Executor(_) => {
                let images: Tensor = batch.tensor()?;
                let logits = Executor::new(self.graph, self.weights).run(&[images], Mode::Eval)?.remove(0);
                return Ok(logits.to_vec2()?);
            }
        };
        Ok(logits.chunks_exact(logits.len() / batch.len()).map(<[f32]>::to_vec).collect())
    }
}
