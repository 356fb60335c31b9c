//! The weights on the host, where the optimisers are, and how a pass packs those it needs for the device.

use candle_core::{Device, Tensor};
use milenas_models::{Error, Result, Weights};

use crate::supernet::UpdateFn;

/// How much of a batch's statistics goes into the running ones (PyTorch's default).
const MOMENTUM: f64 = 0.1;

/// Words between the starts of what lies side by side, so that products read whole lines, and four numbers at a time are on theirs.
pub(crate) const ALIGNMENT: usize = 32;

/// The most words of a parameter that are one row of a table, and so one block's work.
const PIECE: usize = 2048;

struct Parameter {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
    /// Of the last pass that wanted it; `None` without a part in it.
    gradient: Option<Vec<f32>>,
}

struct NormTensors {
    name: String,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// Parameters and running statistics, each in the order of its number.
#[derive(Default)]
pub(crate) struct DeviceTensors {
    parameters: Vec<Parameter>,
    norms: Vec<NormTensors>,
}

impl DeviceTensors {
    /// A parameter of a PyTorch name, zero; its number.
    pub(crate) fn parameter(&mut self, name: String, shape: &[usize]) -> usize {
        let values = vec![0.0; shape.iter().product()];
        self.parameters.push(Parameter { name, shape: shape.to_vec(), values, gradient: None });
        self.parameters.len() - 1
    }

    /// The running statistics of a BatchNorm, 0 and 1; their number.
    pub(crate) fn norm(&mut self, name: String, channels: usize) -> usize {
        self.norms.push(NormTensors { name, mean: vec![0.0; channels], variance: vec![1.0; channels] });
        self.norms.len() - 1
    }

    /// Where each parameter begins when all lie one after the other, and how many words it has.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.parameters.iter().scan(0, |end, parameter| {
            let len = parameter.values.len();
            *end += len;
            Some((*end - len, len))
        })
    }

    /// Rows that a table of all parameters has.
    pub(crate) fn pieces(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.values.len().div_ceil(PIECE)).sum()
    }

    /// Words of all parameters.
    pub(crate) fn words(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.values.len()).sum()
    }

    /// All weights, one parameter after the other.
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

    /// What there is of each parameter, one after the other; zeros where there is nothing.
    pub(crate) fn gathered(&self, state: &[Vec<f32>]) -> Vec<f32> {
        let mut all = vec![0.0; self.words()];
        for ((start, _), own) in self.places().zip(state) {
            all[start..][..own.len()].copy_from_slice(own);
        }
        all
    }

    /// The same by parameter.
    pub(crate) fn scattered(&self, all: &[f32]) -> Vec<Vec<f32>> {
        self.places().map(|(start, len)| all[start..][..len].to_vec()).collect()
    }

    pub(crate) fn squared_gradient_norm(&self) -> f64 {
        self.gradients().map(crate::optim::squared_norm).sum()
    }

    fn gradients(&self) -> impl Iterator<Item = &[f32]> {
        self.parameters.iter().filter_map(|parameter| parameter.gradient.as_deref())
    }

    /// # Errors
    /// An unknown name.
    pub(crate) fn gradient(&self, name: &str) -> Result<Vec<f32>> {
        let found = self.parameters.iter().find(|parameter| parameter.name == name).ok_or_else(|| {
            Error::unknown("parameter", name, self.parameters.iter().map(|parameter| &*parameter.name))
        })?;
        Ok(found.gradient.clone().unwrap_or_else(|| vec![0.0; found.values.len()]))
    }

    /// Shows every parameter that has a gradient, and this.
    pub(crate) fn for_each(&mut self, visit: &mut UpdateFn<'_>) {
        for (id, Parameter { values, gradient, .. }) in self.parameters.iter_mut().enumerate() {
            if let Some(gradient) = gradient {
                visit(id, values, gradient);
            }
        }
    }

    /// Shows every parameter, then every running statistic, each with a number of its own.
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

    /// # Errors
    /// A missing or unexpected tensor, another shape.
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

/// Where the parameters of a pass and the moments of its BatchNorms lie on the device, in words.
#[derive(Clone, Default)]
pub(crate) struct Packing {
    parameters: Vec<(usize, usize)>,
    /// Number, offset, and over how many values of an image the moments are.
    norms: Vec<(usize, usize, usize)>,
    words: usize,
    moments: usize,
}

impl Packing {
    /// Parameters one after the other; where the first lies.
    pub(crate) fn put(&mut self, tensors: &DeviceTensors, ids: impl IntoIterator<Item = usize>) -> usize {
        let start = self.words.next_multiple_of(ALIGNMENT);
        self.words = start;
        for id in ids {
            self.parameters.push((id, self.words));
            self.words += tensors.parameters[id].values.len();
        }
        start
    }

    /// Room for so many moments; where it is.
    pub(crate) fn room(&mut self, channels: usize) -> usize {
        self.moments += channels;
        self.moments - channels
    }

    /// Running statistics that belong to the moments at `offset`, over `pixels` values of an image.
    pub(crate) fn norm(&mut self, id: usize, offset: usize, pixels: usize) {
        self.norms.push((id, offset, pixels));
    }

    /// Words of all parameters.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Words of all means, and of all variances.
    pub(crate) fn moments(&self) -> usize {
        self.moments
    }

    /// Of each piece of each parameter, where it is among all, where it is here, and its words.
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

    /// Parameters without a part in the pass have none from now on.
    pub(crate) fn unpack_gradients(&self, packed: &[f32], tensors: &mut DeviceTensors) {
        tensors.parameters.iter_mut().for_each(|parameter| parameter.gradient = None);
        for &(id, offset) in &self.parameters {
            let parameter = &mut tensors.parameters[id];
            parameter.gradient = Some(packed[offset..][..parameter.values.len()].to_vec());
        }
    }

    /// Means, then variances, of the running statistics.
    pub(crate) fn running(&self, tensors: &DeviceTensors) -> Vec<f32> {
        let mut packed = vec![0.0; 2 * self.moments];
        for &(id, offset, _) in &self.norms {
            let NormTensors { mean, variance, .. } = &tensors.norms[id];
            packed[offset..][..mean.len()].copy_from_slice(mean);
            packed[self.moments + offset..][..variance.len()].copy_from_slice(variance);
        }
        packed
    }

    /// Moves the running statistics by the means and biased variances of a batch of so many images.
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
    fn a_table_covers_every_word_once_in_short_pieces() {
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
