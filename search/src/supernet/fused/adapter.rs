//! Implementation of [`Supernet`] for the optimised supernet.

use candle_core::{Device, Tensor};
use milenas_models::Weights;
use milenas_models::fused::NetworkTensors;

use super::{FusedSupernet, ImageBatch};
use crate::Result;
use crate::data::Batch;
use crate::supernet::{GradRequest, PassResult, Row, Supernet, SupernetConfig, UpdateFn};

fn images<'a>(batch: &Batch, pixels: &'a [f32]) -> ImageBatch<'a> {
    let [_, height, width] = batch.shape;
    ImageBatch { pixels, height, width }
}

/// Returns weights and statistics of a fused network by PyTorch's names.
pub(in crate::supernet) fn named_weights(tensors: &NetworkTensors) -> Result<Weights> {
    let mut weights = Weights::default();
    for named in tensors.named() {
        let values = tensors.get(&named.name)?;
        weights.insert(&named.name, Tensor::from_vec(values, named.shape.as_slice(), &Device::Cpu)?)?;
    }
    for name in tensors.statistic_names() {
        let values = tensors.get(name)?;
        weights.insert(name, Tensor::from_slice(&values, values.len(), &Device::Cpu)?)?;
    }
    Ok(weights)
}

impl Supernet for FusedSupernet {
    fn config(&self) -> &SupernetConfig {
        FusedSupernet::config(self)
    }

    fn evaluate_cells(&mut self, batch: &Batch, mixture: &[&[Row]], want: GradRequest) -> Result<PassResult> {
        Ok(FusedSupernet::evaluate_cells(
            self,
            images(batch, &batch.numbers()),
            &batch.labels,
            mixture,
            want,
        )?)
    }

    fn predict_cells(&mut self, batch: &Batch, mixture: &[&[Row]]) -> Result<Vec<f32>> {
        Ok(FusedSupernet::predict_cells(self, images(batch, &batch.numbers()), mixture)?)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        Ok(self.tensors().squared_gradient_norm().sqrt())
    }

    fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        Ok(self.tensors().gradient(name)?)
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        self.tensors_mut().for_each_parameter(step);
        Ok(())
    }

    fn weights(&mut self) -> Result<Weights> {
        named_weights(self.tensors())
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        Supernet::weights(self)?.check_same(weights)?;
        Ok(self.tensors_mut().load(weights)?)
    }

    fn profile(&self) -> &[(&'static str, f64)] {
        FusedSupernet::profile(self)
    }

    fn reset_profile(&mut self) {
        FusedSupernet::reset_profile(self);
    }
}
