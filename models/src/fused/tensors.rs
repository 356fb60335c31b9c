//! A network's numbers by PyTorch's names: parameters, their gradients, running statistics.

use crate::{Error, Result, Weights};

use super::norm::Statistics;
use super::parameters::{Gradients, Named, Parameters};

/// What a network keeps between batches.
#[derive(Default)]
pub struct NetworkTensors {
    /// As the kernels want them.
    pub parameters: Parameters,
    /// Of the BatchNorms.
    pub statistics: Statistics,
    /// Of the parameters.
    pub gradients: Gradients,
}

impl NetworkTensors {
    /// With zero gradients.
    pub fn new(parameters: Parameters, statistics: Statistics) -> NetworkTensors {
        let gradients = Gradients::new(&parameters);
        NetworkTensors { parameters, statistics, gradients }
    }

    /// The parameters in network order, as PyTorch names and shapes them.
    pub fn named(&self) -> &[Named] {
        &self.parameters.named
    }

    /// The names of the BatchNorms' running means and variances, in network order.
    pub fn statistic_names(&self) -> &[String] {
        &self.statistics.names
    }

    /// A parameter or running statistic in PyTorch's layout.
    ///
    /// # Errors
    /// An unknown name.
    pub fn get(&self, name: &str) -> Result<Vec<f32>> {
        if let Some(named) = self.parameters.find(name) {
            return Ok(Parameters::read(named, &self.parameters.values));
        }
        Ok(self.statistics.values[self.statistic(name)?].clone())
    }

    /// Sets a parameter or running statistic from PyTorch's layout.
    ///
    /// # Errors
    /// An unknown name, another number of elements.
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
    /// A missing tensor, or one of another size.
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        let names: Vec<String> = self.names().cloned().collect();
        for name in names {
            self.set(&name, &weights.require(&name)?.flatten_all()?.to_vec1::<f32>()?)?;
        }
        Ok(())
    }

    /// Puts every tensor into `weights`, where [`load`](Self::load) found it.
    ///
    /// # Errors
    /// A missing tensor.
    pub fn store(&self, weights: &Weights) -> Result<()> {
        for name in self.names() {
            let values = self.get(name)?;
            weights.modify(name, |to| to.copy_from_slice(&values))?;
        }
        Ok(())
    }

    /// The gradient of a parameter in PyTorch's layout, from the last pass that wanted those of the parameters.
    ///
    /// # Errors
    /// An unknown name.
    pub fn gradient(&self, name: &str) -> Result<Vec<f32>> {
        match self.parameters.find(name) {
            Some(named) => Ok(Parameters::read(named, &self.gradients.values)),
            None => {
                Err(Error::unknown("parameter", name, self.parameters.named.iter().map(|n| n.name.clone())))
            }
        }
    }

    /// The squared norm of all gradients together.
    pub fn squared_gradient_norm(&self) -> f64 {
        self.gradients.squared_norm()
    }

    /// Shows every parameter that has a gradient, and this, in the packed form the kernels use: index, values, gradient. The two
    /// weights of a strided skip come as one. Filling lanes are zero with zero gradients; an optimiser
    /// must leave them zero, as all do whose step for (0, 0) is 0.
    pub fn for_each_parameter(&mut self, visit: impl FnMut(usize, &mut [f32], &[f32])) {
        self.parameters.for_each(&self.gradients, visit);
    }
}
