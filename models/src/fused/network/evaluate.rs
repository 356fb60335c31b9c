//! Answers in evaluation mode.

use rayon::prelude::*;

use crate::{Error, Result};

use super::FusedNetwork;
use super::plan::{EvalPlan, Precision};

/// What an image is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// `[classes]`.
    pub logits: Vec<f32>,
    /// What the linear layer reads: means over the pixels of the last map, `[channels]`.
    pub features: Vec<f32>,
}

impl FusedNetwork {
    /// Logits `[N, classes]` in evaluation mode: BatchNorms use the running statistics.
    ///
    /// # Errors
    /// Pixels that do not fit.
    pub fn predict(&mut self, images: &[f32]) -> Result<Vec<f32>> {
        self.forget_factors();
        self.prepare_evaluation(Precision::Float32);
        let found = self.infer(images);
        // Its weights and rooms would stay while the network trains on.
        self.plan = None;
        Ok(found?.into_iter().flat_map(|found| found.logits).collect())
    }

    /// Makes the network ready for [`infer`](Self::infer), after its weights or statistics changed.
    pub fn prepare_evaluation(&mut self, precision: Precision) {
        let tensors = &self.program.tensors;
        for norm in self.program.norms.iter_mut().flatten() {
            norm.evaluate(&tensors.parameters, &tensors.statistics);
        }
        self.program.stem.evaluate(&tensors.parameters, &tensors.statistics);
        self.plan = Some(EvalPlan::new(self, precision));
    }

    /// Answers to images `[N, C, H, W]` in evaluation mode, as the network was when it was last [settled](Self::settle). Runs in
    /// rayon's current pool; the answers do not depend on its number of threads.
    ///
    /// # Errors
    /// Pixels that do not fit; a network that was not settled since its weights could change.
    pub fn infer(&self, images: &[f32]) -> Result<Vec<Prediction>> {
        let batch = self.check(images)?;
        let Some(plan) = &self.plan else {
            let (found, expected) = ("weights not settled".into(), "a call of `settle` before".into());
            return Err(Error::Value { what: "network".into(), found, expected });
        };
        let threads = rayon::current_num_threads().div_ceil(batch);
        let answer = |image| plan.answer(self, image, threads);
        Ok(images.par_chunks_exact(images.len() / batch).map(answer).collect())
    }
}
