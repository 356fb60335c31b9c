//! Many samples at once, at a network's size.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{Dataset, Sample};
use crate::input::{InputContract, Limits};
use crate::{Error, Result};

/// Prepared images in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// `[N, H, W, C]` bytes.
    pub pixels: Vec<u8>,
    /// `[N]` indices into the classes.
    pub labels: Vec<u32>,
}

impl Dataset {
    /// Decodes and prepares `samples` in parallel, keeping their order. Bad ones are left out of the result and returned
    /// by name with the reason, in order too. `progress` hears how many are done, from any thread.
    pub fn load(
        samples: &[Sample],
        contract: &InputContract,
        limits: &Limits,
        progress: &(dyn Fn(usize) + Sync),
    ) -> (Labelled, Vec<(String, Error)>) {
        let size = contract.len();
        let mut pixels = vec![0; samples.len() * size];
        let done = AtomicUsize::new(0);
        let results: Vec<Result<()>> = pixels
            .par_chunks_exact_mut(size)
            .zip(samples)
            .map(|(out, sample)| {
                let image = sample.image(limits)?;
                out.copy_from_slice(&contract.prepare(&image)?);
                Ok(())
            })
            .inspect(|_| progress(done.fetch_add(1, Ordering::Relaxed) + 1))
            .collect();

        let mut labels = Vec::with_capacity(samples.len());
        let mut bad = Vec::new();
        for (i, (sample, result)) in samples.iter().zip(results).enumerate() {
            match result {
                Ok(()) => {
                    pixels.copy_within(i * size..(i + 1) * size, labels.len() * size);
                    labels.push(sample.class());
                }
                Err(error) => bad.push((sample.name(), error)),
            }
        }
        pixels.truncate(labels.len() * size);
        (Labelled { pixels, labels }, bad)
    }
}
