//! Reference implementation of the supernet of any space: its graph on candle tensors. It is slow.

use std::collections::HashMap;

use candle_core::{Device, Tensor, Var};
use milenas_models::graph::Value;
use milenas_models::space::ChoiceGraph;
use milenas_models::{Executor, Mode, Weights};

use super::{GradRequest, PassResult, Rows, Supernet, SupernetConfig, UpdateFn};
use crate::data::Batch;
use crate::{Result, loss};

/// Supernet on candle's tensors.
pub struct Reference {
    config: SupernetConfig,
    choices: ChoiceGraph,
    weights: Weights,
    /// Why this supernet runs in place of a faster one.
    reason: Option<String>,
    /// Index among the trainable weights, name and gradient of each weight with a gradient.
    gradients: Vec<(usize, String, Vec<f32>)>,
}

impl Reference {
    /// Creates a supernet for images `[in_channels, height, width]`.
    ///
    /// # Errors
    /// Fails for images too small for the network.
    pub fn new(config: &SupernetConfig, height: usize, width: usize, seed: u64) -> Result<Self> {
        let choices = config.choices(height, width)?;
        let weights = Weights::init(&choices.graph, seed)?;
        Ok(Reference { config: *config, choices, weights, reason: None, gradients: Vec::new() })
    }

    /// Returns the supernet with the reason why it runs in place of a faster one.
    pub(super) fn because(self, reason: String) -> Self {
        Reference { reason: Some(reason), ..self }
    }

    /// Returns the multiply-accumulates of a forward pass over one image, for all candidates on all edges.
    pub fn macs(&self) -> u64 {
        milenas_models::cost(&self.choices.graph).macs
    }

    /// Returns logits `[N, classes]` under weights of the candidates, `[candidates]` for each site. A candidate of weight
    /// 0 is skipped.
    fn forward(&self, batch: &Batch, weights: &[Tensor], rows: &[Vec<f32>], mode: Mode) -> Result<Tensor> {
        let mut choices: HashMap<Value, Option<Tensor>> = HashMap::new();
        for (site, (weights, row)) in self.choices.sites.iter().zip(weights.iter().zip(rows)) {
            for (k, wires) in site.candidates.iter().enumerate() {
                let weight = match row[k] {
                    0.0 => None,
                    _ => Some(weights.narrow(0, k, 1)?.reshape((1, 1, 1, 1))?),
                };
                choices.extend(wires.iter().map(|wire| (*wire, weight.clone())));
            }
        }
        let executor = Executor::new(&self.choices.graph, &self.weights).with_choices(choices);
        Ok(executor.run(&[batch.tensor()?], mode)?.remove(0))
    }
}

fn tensors(rows: &[Vec<f32>]) -> Result<Vec<Tensor>> {
    let tensor = |row: &Vec<f32>| Ok(Tensor::from_slice(row, row.len(), &Device::Cpu)?);
    rows.iter().map(tensor).collect()
}

impl Supernet for Reference {
    fn config(&self) -> &SupernetConfig {
        &self.config
    }

    fn slow_because(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn evaluate_sites(
        &mut self,
        batch: &Batch,
        mixture: &[Vec<f32>],
        want: GradRequest,
    ) -> Result<PassResult> {
        let vars = tensors(mixture)?.iter().map(Var::from_tensor).collect::<candle_core::Result<Vec<_>>>()?;
        let weights =
            vars.iter().map(|v| if want.mixture { v.as_tensor().clone() } else { v.as_detached_tensor() });
        let logits = self.forward(batch, &weights.collect::<Vec<_>>(), mixture, Mode::Train)?;
        let (loss, correct) = loss::cross_entropy(&logits, &batch.labels, 0.0)?;
        let gradients = loss.backward()?;
        if want.weights {
            self.gradients.clear();
            for (index, (name, var)) in self.weights.trainable().enumerate() {
                if let Some(gradient) = gradients.get(var) {
                    self.gradients.push((index, name.to_string(), gradient.flatten_all()?.to_vec1()?));
                }
            }
        }
        let row = |var: &Var| -> Result<Vec<f64>> {
            let zeros = vec![0.0; var.elem_count()];
            let found = gradients.get(var).map(|g| g.flatten_all()?.to_vec1::<f32>()).transpose()?;
            Ok(found.unwrap_or(zeros).into_iter().map(f64::from).collect())
        };
        let mixture_gradient: Rows<f64> = vars.iter().map(row).collect::<Result<_>>()?;
        Ok(PassResult { loss: f64::from(loss.to_scalar::<f32>()?), correct, mixture_gradient })
    }

    fn predict_sites(&mut self, batch: &Batch, mixture: &[Vec<f32>]) -> Result<Vec<f32>> {
        Ok(self.forward(batch, &tensors(mixture)?, mixture, Mode::Eval)?.flatten_all()?.to_vec1()?)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        Ok(self.gradients.iter().map(|(.., g)| crate::optim::squared_norm(g)).sum::<f64>().sqrt())
    }

    fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        let found = self.gradients.iter().find(|(_, known, _)| known == name).map(|(.., g)| g.clone());
        Ok(match found {
            Some(gradient) => gradient,
            None => {
                let names = self.weights.iter().map(|(known, _)| known);
                let var = self.weights.get(name);
                let var = var.ok_or_else(|| milenas_models::Error::unknown("weight", name, names))?;
                vec![0.0; var.elem_count()]
            }
        })
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        for (index, name, gradient) in &self.gradients {
            self.weights.modify(name, |w| step(*index, w, gradient))?;
        }
        Ok(())
    }

    fn weights(&mut self) -> Result<Weights> {
        Ok(self.weights.detached()?)
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        self.weights.check_same(weights)?;
        self.weights = weights.detached()?;
        Ok(())
    }
}
