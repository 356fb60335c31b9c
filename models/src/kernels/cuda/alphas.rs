//! Logits of a mixture: their softmax weights, their gradient, and a step of their optimiser.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Logits `[row][column]` with one row per edge and one column per candidate, and their Adam state.
#[derive(Clone, Copy, Debug)]
pub struct DeviceLogits {
    /// The logits, the means of their gradients and the means of the squared gradients, one after the other.
    pub state: Words,
    /// Number of edges.
    pub rows: usize,
    /// Number of candidates.
    pub columns: usize,
}

/// Location of the gradient with respect to a mixture's weights after a pass. Each use of a candidate has a range of
/// elements, whose sum is its gradient.
#[derive(Clone, Copy, Debug)]
pub struct Uses {
    /// Number of uses.
    pub count: usize,
    /// Index of the first use of each logit, and the number of uses at the end.
    pub first: Words,
    /// Index of the first element of each use.
    pub at: Words,
    /// Number of elements of each use.
    pub lengths: Words,
}

/// Settings of an Adam step, as in `torch.optim.Adam`.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Two elements: the rate over `1 - beta1^t`, and `1 - beta2^t`, at step `t`, counted from 1.
    pub by: Words,
    /// Decay rate of the mean of the gradients.
    pub beta1: f64,
    /// Decay rate of the mean of the squared gradients.
    pub beta2: f64,
    /// Weight decay, as an L2 penalty.
    pub decay: f64,
}

impl DeviceLogits {
    fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Computes the softmax of each row for each use of a candidate. `uses` holds the index of each use's logit.
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

    /// Adds `factor` times the gradient with respect to the logits to `gradient`, which has the shape of the logits.
    /// `reach` holds the gradient with respect to the weights, from a pass.
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

    /// Updates the logits by one Adam step, from their gradient.
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
