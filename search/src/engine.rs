//! What a derived network runs on: the fused passes where they cover it, else the executor.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use milenas_models::fused::{Network, Regularisers};
use milenas_models::graph::Value;
use milenas_models::{Executor, Graph, Mode, Trainable, Weights};

use crate::Result;
use crate::data::Batch;
use crate::loss::cross_entropy;
use crate::optim::{Ema, Sgd, SgdConfig, clip_factor, squared_norm};

/// A network with its weights.
pub struct Engine<'a> {
    graph: &'a Graph,
    paths: &'a [Value],
    weights: &'a Weights,
    fused: Option<Network>,
    /// Of the executor's last loss, by name.
    gradients: Vec<(&'a str, Vec<f32>)>,
}

impl<'a> Engine<'a> {
    /// # Errors
    /// Weights that the graph lacks.
    pub fn new(graph: &'a Graph, weights: &'a Weights) -> Result<Self> {
        Self::on(Network::new(graph).ok(), graph, &[], weights)
    }

    /// With what training alone asks for.
    ///
    /// # Errors
    /// Weights that the graph lacks.
    pub fn for_training(network: &'a Trainable, weights: &'a Weights) -> Result<Self> {
        Self::on(Network::for_training(network).ok(), &network.graph, &network.paths, weights)
    }

    fn on(
        mut fused: Option<Network>,
        graph: &'a Graph,
        paths: &'a [Value],
        weights: &'a Weights,
    ) -> Result<Self> {
        if let Some(network) = &mut fused {
            network.tensors_mut().load(weights)?;
        }
        Ok(Engine { graph, paths, weights, fused, gradients: Vec::new() })
    }

    /// The fused network, if there is one.
    pub fn fused(&mut self) -> Option<&mut Network> {
        self.fused.as_mut()
    }

    /// How many paths can be dropped.
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// The loss of a batch in training mode, that of the auxiliary head with it, and the number of right answers; leaves the
    /// gradients for [`step`](Self::step).
    pub fn gradients(&mut self, batch: &Batch, extra: &Regularisers<'_>) -> Result<(f64, usize)> {
        if let Some(network) = &mut self.fused {
            return Ok(network.descend_with(&batch.numbers(), &batch.labels, extra)?);
        }
        let mut factors = HashMap::new();
        for (path, factor) in self.paths.iter().zip(extra.paths.chunks_exact(batch.len())) {
            factors.insert(*path, Tensor::from_slice(factor, (batch.len(), 1, 1, 1), &Device::Cpu)?);
        }
        let executor = Executor::new(self.graph, self.weights).with_factors(factors);
        let results = executor.run(&[batch.tensor()?], Mode::Train)?;
        let (mut loss, right) = cross_entropy(&results[0], &batch.labels, extra.smoothing)?;
        if let (true, Some(logits)) = (extra.auxiliary > 0.0, results.get(1)) {
            let (second, _) = cross_entropy(logits, &batch.labels, extra.smoothing)?;
            loss = (loss + (second * extra.auxiliary)?)?;
        }
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

    /// Shows every weight and running statistic to the mean.
    pub fn average(&mut self, ema: &mut Ema, decay: f64) -> Result<()> {
        let decay = ema.begin(decay);
        self.each(|index, w| ema.see(decay, index, w))
    }

    /// Exchanges every weight and running statistic and its mean.
    pub fn swap(&mut self, ema: &mut Ema) -> Result<()> {
        self.each(|index, w| ema.swap(index, w))
    }

    /// All tensors, each with an index of its own.
    fn each(&mut self, mut visit: impl FnMut(usize, &mut [f32])) -> Result<()> {
        if let Some(network) = &mut self.fused {
            let mut count = 0;
            let tensors = network.tensors_mut();
            tensors.for_each_parameter(|index, w, _| {
                count = count.max(index + 1);
                visit(index, w);
            });
            let statistics = tensors.statistics.values.iter_mut().enumerate();
            statistics.for_each(|(index, x)| visit(count + index, x));
            return Ok(());
        }
        for (index, (name, _)) in self.weights.iter().enumerate() {
            self.weights.modify(name, |w| visit(index, w))?;
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
            let logits = network.predict(&batch.numbers())?;
            return Ok(logits.chunks_exact(logits.len() / batch.len()).map(<[f32]>::to_vec).collect());
        }
        let images: Tensor = batch.tensor()?;
        let logits = Executor::new(self.graph, self.weights).run(&[images], Mode::Eval)?.remove(0);
        Ok(logits.to_vec2()?)
    }
}
