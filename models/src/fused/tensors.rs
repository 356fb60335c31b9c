//! Tensors of a network by PyTorch's names: parameters, their gradients, running statistics.

use candle_core::{Device, Tensor};

use crate::{Error, Result, Weights};

use super::norm::Statistics;
use super::parameters::{Gradients, Named, Parameters};

/// Tensors that a network keeps between batches.
#[derive(Default)]
pub struct NetworkTensors {
    /// Parameters, in the layout of the kernels.
    pub parameters: Parameters,
    /// Running statistics of the BatchNorms.
    pub statistics: Statistics,
    /// Gradients of the parameters.
    pub gradients: Gradients,
}

impl NetworkTensors {
    /// Returns the tensors with zero gradients.
    pub fn new(parameters: Parameters, statistics: Statistics) -> NetworkTensors {
        let gradients = Gradients::new(&parameters);
        NetworkTensors { parameters, statistics, gradients }
    }

    /// Returns the parameters in network order, with PyTorch's names and shapes.
    pub fn named(&self) -> &[Named] {
        &self.parameters.named
    }

    /// Returns the names of the BatchNorms' running means and variances, in network order.
    pub fn statistic_names(&self) -> &[String] {
        &self.statistics.names
    }

    /// Returns a parameter or running statistic in PyTorch's layout.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the name is unknown.
    pub fn get(&self, name: &str) -> Result<Vec<f32>> {
        if let Some(named) = self.parameters.find(name) {
            return Ok(Parameters::read(named, &self.parameters.values));
        }
        Ok(self.statistics.values[self.statistic(name)?].clone())
    }

    /// Sets a parameter or running statistic from PyTorch's layout.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the name is unknown, [`Error::Weights`] if the number of elements differs.
    pub fn set(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let expected = match self.parameters.find(name) {
            Some(named) => named.shape.iter().product(),
            None => self.statistics.values[self.statistic(name)?].len(),
        };
        if values.len() != expected {
            let problem = format!("`{name}` has {expected} elements, found {}", values.len());
            return Err(Error::Weights { problem });
        }
        if self.parameters.find(name).is_some() {
            self.parameters.set(name, values);
        } else {
            let index = self.statistic(name)?;
            self.statistics.values[index].copy_from_slice(values);
        }
        Ok(())
    }

    fn statistic(&self, name: &str) -> Result<usize> {
        self.statistics.names.iter().position(|n| n == name).ok_or_else(|| {
            let parameters = self.parameters.named.iter().map(|n| n.name.clone());
            Error::unknown("weight", name, parameters.chain(self.statistics.names.iter().cloned()))
        })
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.parameters.named.iter().map(|n| &n.name).chain(&self.statistics.names)
    }

    /// Sets every tensor from `weights`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another size.
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        let names: Vec<String> = self.names().cloned().collect();
        for name in names {
            self.set(&name, &weights.require(&name)?.flatten_all()?.to_vec1::<f32>()?)?;
        }
        Ok(())
    }

    /// Stores every tensor in `weights`, under the name that [`load`](Self::load) uses.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing.
    pub fn store(&self, weights: &Weights) -> Result<()> {
        for name in self.names() {
            let values = self.get(name)?;
            weights.modify(name, |to| to.copy_from_slice(&values))?;
        }
        Ok(())
    }

    /// Returns all tensors, under the names that [`load`](Self::load) uses.
    ///
    /// # Errors
    /// Does not fail for tensors of a network.
    pub fn to_weights(&self) -> Result<Weights> {
        let mut weights = Weights::default();
        for named in &self.parameters.named {
            let values = self.get(&named.name)?;
            weights.insert(&named.name, Tensor::from_vec(values, named.shape.as_slice(), &Device::Cpu)?)?;
        }
        for (name, values) in self.statistics.names.iter().zip(&self.statistics.values) {
            weights.insert(name, Tensor::from_slice(values, values.len(), &Device::Cpu)?)?;
        }
        Ok(weights)
    }

    /// Returns the gradient of a parameter in PyTorch's layout, from the last pass that computed the gradients of
    /// weights.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the name is unknown.
    pub fn gradient(&self, name: &str) -> Result<Vec<f32>> {
        match self.parameters.find(name) {
            Some(named) => Ok(Parameters::read(named, &self.gradients.values)),
            None => {
                Err(Error::unknown("parameter", name, self.parameters.named.iter().map(|n| n.name.clone())))
            }
        }
    }

    /// Returns the squared norm of all gradients together.
    pub fn squared_gradient_norm(&self) -> f64 {
        self.gradients.squared_norm()
    }

    /// Calls `visit` for every parameter that has a gradient, with index, values and gradient in packed form. The two
    /// weights of a strided skip are one packed buffer. Unused lanes are zero and have zero gradients. An optimiser
    /// must leave them zero, as all do whose step for (0, 0) is 0.
    pub fn for_each_parameter(&mut self, visit: impl FnMut(usize, &mut [f32], &[f32])) {
        self.parameters.for_each(&self.gradients, visit);
    }
}
