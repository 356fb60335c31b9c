//! The logits of a mixture: what weights they stand for, and a step of their optimiser.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Logits `[row][column]`, a row for an edge and a column for a candidate, and what Adam keeps of them.
#[derive(Clone, Copy, Debug)]
pub struct DeviceLogits {
    /// The logits, the means of their gradients, and those of the squares of these, one after the other.
    pub state: Words,
    /// How many edges.
    pub rows: usize,
    /// How many candidates.
    pub columns: usize,
}

/// Where the gradient by a mixture's weights lies after a pass: a stretch for each use of a candidate, whose sum it is.
#[derive(Clone, Copy, Debug)]
pub struct Uses {
    /// How many.
    pub count: usize,
    /// Of each logit, its first use, and the last one's end.
    pub first: Words,
    /// Of each use, where its stretch begins.
    pub at: Words,
    /// How many words it has.
    pub lengths: Words,
}

/// What a step is by, as `torch.optim.Adam` has it.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct AdamStep {
    /// Two words: the rate over `1 - beta1^t`, and `1 - beta2^t`, at step `t` from 1 on.
    pub by: Words,
    pub beta1: f64,
    pub beta2: f64,
    pub decay: f64,
}

impl DeviceLogits {
    fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// The softmax of a row, at each of so many uses of its candidates: `uses` has the number of the logit.
    pub fn softmax(&self, device: &mut dyn Device, uses: Words, weights: Words) -> Result<()> {
        let count = uses.len();
        let args = [
            self.state.holds(self.len())?,
            Arg::Read(uses),
            weights.written(count)?,
            int(count),
            int(self.columns),
        ];
        launch(device, "alphas_softmax", LaunchGrid::Each(count), &args)
    }

    /// Adds to `gradient`, of the shape of the logits, that by the weights, times a factor; `reach` is what a pass left of it.
    pub fn gradient(
        &self,
        device: &mut dyn Device,
        reach: Words,
        uses: &Uses,
        factor: f32,
        gradient: Words,
    ) -> Result<()> {
        let args = [
            Arg::Read(reach),
            uses.first.holds(self.len() + 1)?,
            uses.at.holds(uses.count)?,
            uses.lengths.holds(uses.count)?,
            gradient.written(self.len())?,
            Arg::Float(factor),
            int(self.len()),
        ];
        launch(device, "alphas_gradient", LaunchGrid::Rows(self.len()), &args)
    }

    /// A step of the logits by the gradient that the weights have.
    pub fn adam_step(&self, device: &mut dyn Device, gradient: Words, how: &AdamStep) -> Result<()> {
        let args = [
            self.state.written(3 * self.len())?,
            gradient.holds(self.len())?,
            how.by.holds(2)?,
            Arg::Float(how.beta1 as f32),
            Arg::Float((1.0 - how.beta1) as f32),
            Arg::Float(how.beta2 as f32),
            Arg::Float((1.0 - how.beta2) as f32),
            Arg::Float(how.decay as f32),
            int(self.rows),
            int(self.columns),
        ];
        launch(device, "alphas_descend", LaunchGrid::Each(self.rows), &args)
    }
}
