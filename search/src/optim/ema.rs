//! Exponential moving average of weights, which generalises better than the last weights.

/// Exponential moving average of tensors, by their index.
///
/// The decay starts low, at `(1 + step) / (10 + step)`, so that a short run forgets its first weights (as in
/// TensorFlow).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ema {
    steps: u64,
    values: Vec<Vec<f32>>,
}

impl Ema {
    /// Restores an average from a [`state`](Self::state).
    pub fn from_state(steps: u64, values: Vec<Vec<f32>>) -> Self {
        Ema { steps, values }
    }

    /// Returns the number of steps, and the means.
    pub fn state(&self) -> (u64, &[Vec<f32>]) {
        (self.steps, &self.values)
    }

    /// Starts a step, to which the next calls of [`see`](Self::see) belong, and returns their decay.
    pub fn begin(&mut self, decay: f64) -> f64 {
        self.steps += 1;
        decay.min((1.0 + self.steps as f64) / (10.0 + self.steps as f64))
    }

    /// Updates `mean = decay mean + (1 - decay) w`. The first mean of a tensor is the tensor itself.
    pub fn see(&mut self, decay: f64, index: usize, w: &[f32]) {
        if self.values.len() <= index {
            self.values.resize(index + 1, Vec::new());
        }
        let mean = &mut self.values[index];
        if mean.is_empty() {
            mean.extend_from_slice(w);
        }
        for (mean, w) in mean.iter_mut().zip(w) {
            *mean = (decay * f64::from(*mean) + (1.0 - decay) * f64::from(*w)) as f32;
        }
    }

    /// Swaps a tensor and its mean.
    pub fn swap(&mut self, index: usize, w: &mut [f32]) {
        let mean = self.values.get_mut(index).into_iter().flatten();
        mean.zip(w).for_each(|(mean, w)| std::mem::swap(mean, w));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_weighted_mean_of_its_inputs() {
        let mut ema = Ema::default();
        let mut expected = 0.0;
        for (step, w) in [1.0f32, 3.0, -2.0].into_iter().enumerate() {
            let decay = ema.begin(0.5);
            assert_eq!(decay, f64::min(0.5, (2.0 + step as f64) / (11.0 + step as f64)));
            ema.see(decay, 1, &[w]);
            expected = if step == 0 { f64::from(w) } else { decay * expected + (1.0 - decay) * f64::from(w) };
        }
        let mut w = [7.0];
        ema.swap(1, &mut w);
        assert!((f64::from(w[0]) - expected).abs() < 1e-6);
        ema.swap(1, &mut w);
        assert_eq!(w, [7.0]);
    }

    #[test]
    fn the_decay_grows_to_the_configured_value() {
        let mut ema = Ema::default();
        assert!(ema.begin(0.999) < 0.2);
        (0..20_000).for_each(|_| {
            ema.begin(0.999);
        });
        assert_eq!(ema.begin(0.999), 0.999);
    }
}
