//! SWAP (Peng et al., ICLR 2024): number of different patterns of ReLU outputs over a batch of images.

use candle_core::{Device, Tensor};
use milenas_models::{Rng, Weights};

use super::{Score, Subject, is_weight};
use crate::Result;

/// Number of images; the paper has 16 to 32.
const IMAGES: usize = 32;

/// Number of initialisations that are averaged, as in the authors' code.
const REPETITIONS: u64 = 32;

/// The score `swap`.
#[derive(Debug)]
pub struct Swap;

impl Score for Swap {
    fn name(&self) -> &'static str {
        "swap"
    }

    fn doc(&self) -> &'static str {
        "number of different patterns of ReLU outputs over 32 images, mean of 32 initialisations (Peng et al., ICLR 2024)"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        if subject.genotype.cells().any(|(_, cell)| cell.is_dead()) {
            return Ok(f64::NEG_INFINITY);
        }
        let mut network = subject.network()?;
        let images = subject.batch.numbers();
        let count = subject.batch.len().min(IMAGES);
        let images = &images[..images.len() / subject.batch.len() * count];
        let mut sum = 0;
        for repetition in 0..REPETITIONS {
            network.tensors_mut().load(&normal(subject.weights, subject.seed, repetition)?)?;
            let mut patterns = Patterns::default();
            network.patterns(images, subject.buffers, &mut |_, found| patterns.add(found))?;
            sum += patterns.count();
        }
        Ok(sum as f64 / REPETITIONS as f64)
    }
}

/// Returns weights of convolutions and linear layers from the standard normal distribution. BatchNorms keep their
/// initial weights, and the bias of the classifier has no effect on the patterns.
fn normal(weights: &Weights, seed: u64, repetition: u64) -> Result<Weights> {
    let mut drawn = Weights::default();
    for (name, var) in weights.iter() {
        let tensor = if is_weight(var.dims()) {
            let mut rng = Rng::new(seed, &format!("swap/{repetition}/{name}"));
            let values: Vec<f32> = (0..var.elem_count()).map(|_| rng.normal()).collect();
            Tensor::from_vec(values, var.dims(), &Device::Cpu)?
        } else {
            var.as_tensor().clone()
        };
        drawn.insert(name, tensor)?;
    }
    Ok(drawn)
}

/// Set of patterns.
#[derive(Default)]
struct Patterns {
    /// Different patterns in order.
    known: Vec<u64>,
}

impl Patterns {
    fn add(&mut self, found: &[u64]) {
        self.known.extend(found);
        self.known.sort_unstable();
        self.known.dedup();
    }

    fn count(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_patterns_of_different_layers_count_once() {
        let mut patterns = Patterns::default();
        patterns.add(&[5, 3, 5, 0]);
        patterns.add(&[3, 9]);
        assert_eq!(patterns.count(), 4);
    }
}
