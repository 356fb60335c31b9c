//! The fast supernet as the search's loop sees it.

use candle_core::{Device, Tensor};
use milenas_models::Weights;

use super::{FusedSupernet, Images};
use crate::Result;
use crate::data::Batch;
use crate::supernet::{Evaluation, Mixture, Supernet, UpdateFn, Want};

fn images(batch: &Batch) -> Images<'_> {
    let [_, height, width] = batch.shape;
    Images { pixels: &batch.images, height, width }
}

impl Supernet for FusedSupernet {
    fn evaluate(&mut self, batch: &Batch, mixture: &Mixture, want: Want) -> Result<Evaluation> {
        Ok(FusedSupernet::evaluate(self, images(batch), &batch.labels, mixture, want)?)
    }

    fn predict(&mut self, batch: &Batch, mixture: &Mixture) -> Result<Vec<f32>> {
        Ok(FusedSupernet::predict(self, images(batch), mixture)?)
    }

    fn gradient_norm(&self) -> Result<f64> {
        Ok(self.squared_gradient_norm().sqrt())
    }

    fn gradient(&self, name: &str) -> Result<Vec<f32>> {
        Ok(FusedSupernet::gradient(self, name)?)
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        self.for_each_parameter(step);
        Ok(())
    }

    fn weights(&self) -> Result<Weights> {
        let mut weights = Weights::default();
        for named in self.parameters() {
            let tensor = Tensor::from_vec(self.get(&named.name)?, named.shape.as_slice(), &Device::Cpu)?;
            weights.insert(&named.name, tensor)?;
        }
        for name in self.statistics() {
            let values = self.get(name)?;
            weights.insert(name, Tensor::from_slice(&values, values.len(), &Device::Cpu)?)?;
        }
        Ok(weights)
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        Supernet::weights(self)?.check_same(weights)?;
        for (name, var) in weights.iter() {
            self.set(name, &var.flatten_all()?.to_vec1::<f32>()?)?;
        }
        Ok(())
    }
}
