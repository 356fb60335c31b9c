//! Gradients of the sum of the logits.

use crate::Result;

use super::FusedNetwork;
use super::backward::BackwardGoal;

impl FusedNetwork {
    /// Returns the gradient of the sum of all logits with respect to the pixels of a batch `[N, C, H, W]`, in
    /// training mode. Updates the running statistics.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if the number of pixels does not fit the network.
    pub fn jacobian(&mut self, images: &[f32]) -> Result<Vec<f32>> {
        let batch = self.check(images)?;
        self.forget_factors();
        let mut pixels = Vec::new();
        rayon::scope(|_| {
            self.forward(images, batch, false);
            self.program.head.logits.fill(1.0);
            let mut unwanted = self.take_unwanted();
            self.backward_to(images, batch, false, &mut unwanted, BackwardGoal::Pixels(&mut pixels));
            self.unwanted = unwanted;
        });
        Ok(pixels)
    }

    /// Returns the sum of all logits of a batch in training mode. Computes the gradients of `factor` times the sum
    /// with respect to all weights, like [`train_step`](Self::train_step).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if the number of pixels does not fit the network.
    pub fn backward_logit_sum(&mut self, images: &[f32], factor: f32) -> Result<f64> {
        let batch = self.check(images)?;
        self.forget_factors();
        Ok(rayon::scope(|_| {
            self.forward(images, batch, false);
            let sum = self.program.head.logits.iter().map(|x| f64::from(*x)).sum();
            self.program.head.logits.fill(factor);
            self.backward(images, batch, false);
            sum
        }))
    }
}
