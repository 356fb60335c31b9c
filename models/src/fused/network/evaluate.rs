//! Predictions in evaluation mode.

use rayon::prelude::*;

use crate::{Error, Result};

use super::FusedNetwork;
use super::schedule::{Precision, Schedule};

/// Prediction for an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Logits, `[classes]`.
    pub logits: Vec<f32>,
    /// Input of the linear layer: means over the pixels of the last feature map, `[channels]`.
    pub features: Vec<f32>,
}

impl FusedNetwork {
    /// Returns logits `[N, classes]` in evaluation mode: BatchNorms use the running statistics.
    ///
    /// # Errors
    /// [`Error::Value`] if the number of pixels does not fit the network.
    pub fn predict(&mut self, images: &[f32]) -> Result<Vec<f32>> {
        self.forget_factors();
        self.prepare_evaluation(Precision::Float32);
        let found = self.infer(images);
        // The schedule's weights and buffers would remain in memory while training continues.
        self.schedule = None;
        Ok(found?.into_iter().flat_map(|found| found.logits).collect())
    }

    /// Prepares the network for [`infer`](Self::infer) after its weights or statistics changed.
    pub fn prepare_evaluation(&mut self, precision: Precision) {
        let tensors = &self.program.tensors;
        for norm in self.program.norms.iter_mut().flatten() {
            norm.evaluate(&tensors.parameters, &tensors.statistics);
        }
        self.program.stem.evaluate(&tensors.parameters, &tensors.statistics);
        self.schedule = Some(Schedule::new(self, precision));
    }

    /// Returns the schedule of the last [`prepare_evaluation`](Self::prepare_evaluation), or `None` if weights may have changed
    /// since.
    pub fn schedule(&self) -> Option<&Schedule> {
        self.schedule.as_ref()
    }

    /// Returns the predictions for images `[N, C, H, W]` in evaluation mode, with the weights at the last
    /// [`prepare_evaluation`](Self::prepare_evaluation). Runs in rayon's current pool; the result does not depend on
    /// its number of threads.
    ///
    /// # Errors
    /// [`Error::Value`] if the number of pixels does not fit, or the network was not prepared since its weights may
    /// have changed.
    pub fn infer(&self, images: &[f32]) -> Result<Vec<Prediction>> {
        let batch = self.check(images)?;
        let Some(schedule) = &self.schedule else {
            let (found, expected) =
                ("weights that are not prepared".into(), "a call of `prepare_evaluation` before".into());
            return Err(Error::Value { what: "network".into(), found, expected });
        };
        let threads = rayon::current_num_threads().div_ceil(batch);
        let answer = |image| schedule.answer(self, image, threads);
        Ok(images.par_chunks_exact(images.len() / batch).map(answer).collect())
    }
}
