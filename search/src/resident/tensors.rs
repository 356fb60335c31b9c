//! Weights on the host, and their packing for passes on the device.

use candle_core::{Device, Tensor};
use milenas_models::{Error, Result, Weights};

use crate::supernet::UpdateFn;

/// Weight of a batch's statistics in the running ones (PyTorch's default).
const MOMENTUM: f64 = 0.1;

/// Alignment of packed tensors, in f32 elements. It keeps GEMM operands aligned to cache lines, and float4
/// loads legal.
pub(crate) const ALIGNMENT: usize = 32;

/// Largest number of elements in a row of a table. A row is the work of one thread block.
const PIECE: usize = 2048;

struct Parameter {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
    /// Gradient of the last pass that requested it; `None` if the parameter had no part in it.
    gradient: Option<Vec<f32>>,
}

struct NormTensors {
    name: String,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// Parameters and running statistics, each ordered by index.
#[derive(Default)]
pub(crate) struct DeviceTensors {
    parameters: Vec<Parameter>,
    norms: Vec<NormTensors>,
}

impl DeviceTensors {
    /// Adds a parameter of zeros under its PyTorch name, and returns its index.
    pub(crate) fn parameter(&mut self, name: String, shape: &[usize]) -> usize {
        let values = vec![0.0; shape.iter().product()];
        self.parameters.push(Parameter { name, shape: shape.to_vec(), values, gradient: None });
        self.parameters.len() - 1
    }

    /// Adds the running statistics of a BatchNorm, mean 0 and variance 1, and returns their index.
    pub(crate) fn norm(&mut self, name: String, channels: usize) -> usize {
        self.norms.push(NormTensors { name, mean: vec![0.0; channels], variance: vec![1.0; channels] });
        self.norms.len() - 1
    }

    /// Returns start and length of each parameter when all are concatenated, in elements.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.parameters.iter().scan(0, |end, parameter| {
            let len = parameter.values.len();
            *end += len;
            Some((*end - len, len))
        })
    }

    /// Returns the number of rows in a table of all parameters.
    pub(crate) fn pieces(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.values.len().div_ceil(PIECE)).sum()
    }

    /// Returns the number of elements of all parameters.
    pub(crate) fn words(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.values.len()).sum()
    }

    /// Returns all weights, concatenated.
    pub(crate) fn all(&self) -> Vec<f32> {
        self.parameters.iter().flat_map(|parameter| &parameter.values).copied().collect()
    }

    /// Replaces all weights.
    pub(crate) fn set_all(&mut self, values: &[f32]) {
        let mut rest = values;
        for parameter in &mut self.parameters {
            let (own, others) = rest.split_at(parameter.values.len());
            parameter.values.copy_from_slice(own);
            rest = others;
        }
    }

    /// Concatenates vectors by parameter; missing ones are filled with zeros.
    pub(crate) fn gathered(&self, state: &[Vec<f32>]) -> Vec<f32> {
        let mut all = vec![0.0; self.words()];
        for ((start, _), own) in self.places().zip(state) {
            all[start..][..own.len()].copy_from_slice(own);
        }
        all
    }

    /// Splits a concatenation into vectors by parameter.
    pub(crate) fn scattered(&self, all: &[f32]) -> Vec<Vec<f32>> {
        self.places().map(|(start, len)| all[start..][..len].to_vec()).collect()
    }

    pub(crate) fn squared_gradient_norm(&self) -> f64 {
        self.gradients().map(crate::optim::squared_norm).sum()
    }

    fn gradients(&self) -> impl Iterator<Item = &[f32]> {
        self.parameters.iter().filter_map(|parameter| parameter.gradient.as_deref())
    }

    /// Returns the last gradient of a parameter; zeros if it had no part in the pass.
    ///
    /// # Errors
    /// Fails for an unknown name.
    pub(crate) fn gradient(&self, name: &str) -> Result<Vec<f32>> {
        let found = self.parameters.iter().find(|parameter| parameter.name == name).ok_or_else(|| {
            Error::unknown("parameter", name, self.parameters.iter().map(|parameter| &*parameter.name))
        })?;
        Ok(found.gradient.clone().unwrap_or_else(|| vec![0.0; found.values.len()]))
    }

    /// Calls `visit` for every parameter that has a gradient.
    pub(crate) fn for_each(&mut self, visit: &mut UpdateFn<'_>) {
        for (id, Parameter { values, gradient, .. }) in self.parameters.iter_mut().enumerate() {
            if let Some(gradient) = gradient {
                visit(id, values, gradient);
            }
        }
    }

    /// Calls `visit` for every parameter, then for every running statistic, each with a unique index.
    pub(crate) fn for_all(&mut self, mut visit: impl FnMut(usize, &mut [f32])) {
        let parameters = self.parameters.iter_mut().map(|parameter| &mut parameter.values);
        let statistics = self.norms.iter_mut().flat_map(|norm| [&mut norm.mean, &mut norm.variance]);
        parameters.chain(statistics).enumerate().for_each(|(index, values)| visit(index, values));
    }

    pub(crate) fn named(&self) -> Result<Weights> {
        let mut weights = Weights::default();
        for Parameter { name, shape, values, .. } in &self.parameters {
            weights.insert(name, Tensor::from_slice(values, shape.as_slice(), &Device::Cpu)?)?;
        }
        for NormTensors { name, mean, variance } in &self.norms {
            for (what, values) in [("running_mean", mean), ("running_var", variance)] {
                let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
                weights.insert(format!("{name}.{what}"), tensor)?;
            }
        }
        Ok(weights)
    }

    /// Replaces weights and statistics.
    ///
    /// # Errors
    /// Fails for a missing or unexpected tensor, and for another shape.
    pub(crate) fn load(&mut self, weights: &Weights) -> Result<()> {
        self.named()?.check_same(weights)?;
        let read = |name: &str| Ok::<_, Error>(weights.require(name)?.flatten_all()?.to_vec1::<f32>()?);
        for parameter in &mut self.parameters {
            parameter.values = read(&parameter.name)?;
        }
        for NormTensors { name, mean, variance } in &mut self.norms {
            *mean = read(&format!("{name}.running_mean"))?;
            *variance = read(&format!("{name}.running_var"))?;
        }
        Ok(())
    }
}

/// Layout on the device of a pass's parameters and of its BatchNorms' statistics, in elements.
#[derive(Clone, Default)]
pub(crate) struct Packing {
    parameters: Vec<(usize, usize)>,
    /// Index and offset of running statistics, and the number of values per image in a channel.
    norms: Vec<(usize, usize, usize)>,
    words: usize,
    moments: usize,
}

impl Packing {
    /// Appends parameters, and returns the offset of the first one.
    pub(crate) fn put(&mut self, tensors: &DeviceTensors, ids: impl IntoIterator<Item = usize>) -> usize {
        let start = self.words.next_multiple_of(ALIGNMENT);
        self.words = start;
        for id in ids {
            self.parameters.push((id, self.words));
            self.words += tensors.parameters[id].values.len();
        }
        start
    }

    /// Reserves statistics of `channels` channels, and returns their offset.
    pub(crate) fn room(&mut self, channels: usize) -> usize {
        self.moments += channels;
        self.moments - channels
    }

    /// Assigns running statistics to the batch statistics at `offset`, which cover `pixels` values per image.
    pub(crate) fn norm(&mut self, id: usize, offset: usize, pixels: usize) {
        self.norms.push((id, offset, pixels));
    }

    /// Returns the number of elements of all parameters.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Returns the number of all means, which is that of all variances.
    pub(crate) fn moments(&self) -> usize {
        self.moments
    }

    /// Returns, for each piece of each parameter, its offset among all parameters, its offset in this packing,
    /// and its length.
    pub(crate) fn table(&self, tensors: &DeviceTensors) -> [Vec<i32>; 3] {
        let places: Vec<(usize, usize)> = tensors.places().collect();
        let mut columns = [const { Vec::new() }; 3];
        for &(id, offset) in &self.parameters {
            let (home, words) = places[id];
            for from in (0..words).step_by(PIECE) {
                let row = [home + from, offset + from, PIECE.min(words - from)];
                columns.iter_mut().zip(row).for_each(|(column, n)| column.push(n as i32));
            }
        }
        columns
    }

    /// Splits packed gradients. Parameters without a part in the pass have no gradient afterwards.
    pub(crate) fn unpack_gradients(&self, packed: &[f32], tensors: &mut DeviceTensors) {
        tensors.parameters.iter_mut().for_each(|parameter| parameter.gradient = None);
        for &(id, offset) in &self.parameters {
            let parameter = &mut tensors.parameters[id];
            parameter.gradient = Some(packed[offset..][..parameter.values.len()].to_vec());
        }
    }

    /// Returns the running means, then the running variances.
    pub(crate) fn running(&self, tensors: &DeviceTensors) -> Vec<f32> {
        let mut packed = vec![0.0; 2 * self.moments];
        for &(id, offset, _) in &self.norms {
            let NormTensors { mean, variance, .. } = &tensors.norms[id];
            packed[offset..][..mean.len()].copy_from_slice(mean);
            packed[self.moments + offset..][..variance.len()].copy_from_slice(variance);
        }
        packed
    }

    /// Updates the running statistics from the means and biased variances of a batch of `images` images.
    pub(crate) fn move_running(&self, packed: &[f32], images: usize, tensors: &mut DeviceTensors) {
        let blend = |running: &mut f32, x: f64| {
            *running = (f64::from(*running) * (1.0 - MOMENTUM) + x * MOMENTUM) as f32;
        };
        for &(id, offset, pixels) in &self.norms {
            let NormTensors { mean, variance, .. } = &mut tensors.norms[id];
            let count = images * pixels;
            let unbiased = count as f64 / count.saturating_sub(1).max(1) as f64;
            let found = &packed[offset..];
            mean.iter_mut().zip(found).for_each(|(running, x)| blend(running, f64::from(*x)));
            let found = &packed[self.moments + offset..];
            variance.iter_mut().zip(found).for_each(|(running, x)| blend(running, f64::from(*x) * unbiased));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceTensors, PIECE, Packing};

    #[test]
    fn a_table_covers_every_element_once_in_short_pieces() {
        let mut tensors = DeviceTensors::default();
        let ids = [3, 2 * PIECE, PIECE + 1].map(|words| tensors.parameter(format!("{words}"), &[words]));
        let mut packing = Packing::default();
        for id in [ids[2], ids[0], ids[1]] {
            packing.put(&tensors, [id]);
        }
        let [home, packed, words] = packing.table(&tensors);
        assert_eq!(home, [3 + 2 * PIECE, 3 + 3 * PIECE, 0, 3, 3 + PIECE].map(|at| at as i32));
        let second = (PIECE + 1).next_multiple_of(super::ALIGNMENT);
        let third = (second + 3).next_multiple_of(super::ALIGNMENT);
        assert_eq!(packed, [0, PIECE, second, third, third + PIECE].map(|at| at as i32));
        assert_eq!(words, [PIECE, 1, 3, PIECE, PIECE].map(|words| words as i32));
        assert_eq!(tensors.pieces(), words.len());
    }
}
