//! Loading of many samples at a network's input size.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{Dataset, Sample};
use crate::input::{Image, InputContract, Limits};
use crate::{Error, Result};

/// Prepared images in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// Bytes of the images, `[N, H, W, C]`.
    pub pixels: Vec<u8>,
    /// Indices of the classes, `[N]`.
    pub labels: Vec<u32>,
}

impl Dataset {
    /// Decodes and prepares `samples` in parallel, keeping their order. Samples that fail are omitted from the result
    /// and returned by name with the reason, in order too. `progress` is called with the number of finished samples,
    /// from any thread.
    pub fn load(
        samples: &[Sample],
        contract: &InputContract,
        limits: &Limits,
        progress: &(dyn Fn(usize) + Sync),
    ) -> (Labelled, Vec<(String, Error)>) {
        let (labelled, _, bad) = Self::load_with(samples, contract, limits, progress, &|_| Ok(()));
        (labelled, bad)
    }

    /// Loads samples like [`load`](Self::load), and also returns the result of `more` for each decoded image. An
    /// image for which `more` fails is omitted too.
    pub fn load_with<T: Send>(
        samples: &[Sample],
        contract: &InputContract,
        limits: &Limits,
        progress: &(dyn Fn(usize) + Sync),
        more: &(dyn Fn(&Image) -> Result<T> + Sync),
    ) -> (Labelled, Vec<T>, Vec<(String, Error)>) {
        let size = contract.len();
        let mut pixels = vec![0; samples.len() * size];
        let done = AtomicUsize::new(0);
        let results: Vec<Result<T>> = pixels
            .par_chunks_exact_mut(size)
            .zip(samples)
            .map(|(out, sample)| {
                let image = sample.image(limits)?;
                out.copy_from_slice(&contract.prepare(&image)?);
                more(&image)
            })
            .inspect(|_| progress(done.fetch_add(1, Ordering::Relaxed) + 1))
            .collect();

        let (mut labels, mut made) = (Vec::with_capacity(samples.len()), Vec::with_capacity(samples.len()));
        let mut bad = Vec::new();
        for (i, (sample, result)) in samples.iter().zip(results).enumerate() {
            match result {
                Ok(of_it) => {
                    pixels.copy_within(i * size..(i + 1) * size, labels.len() * size);
                    labels.push(sample.class());
                    made.push(of_it);
                }
                Err(error) => bad.push((sample.name(), error)),
            }
        }
        pixels.truncate(labels.len() * size);
        (Labelled { pixels, labels }, made, bad)
    }
}
