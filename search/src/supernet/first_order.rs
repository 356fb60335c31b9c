//! First-order step as a whole, for a supernet that performs it on its device.

use super::Alphas;
use crate::data::Batch;
use crate::optim::{Adam, AdamConfig, Sgd, SgdConfig};

/// Inputs of a first-order step. The architecture's logits move by the gradients of two losses, then the
/// weights by the gradient of the training loss (MiLeNAS, algorithm 1).
#[derive(Clone, Copy, Debug)]
pub struct FirstOrder<'a> {
    /// Training batch and validation batch.
    pub batches: [&'a Batch; 2],
    /// Factors of the two losses' gradients with respect to the logits. A loss with factor 0 is not computed.
    pub factors: [f32; 2],
    /// Whether the weights' gradient comes from the pass of the logits' gradient, before the logits move.
    /// Otherwise it comes from a further pass, after they moved.
    pub two_pass: bool,
    /// Optimiser settings of the logits.
    pub alphas: AdamConfig,
    /// Optimiser settings of the weights.
    pub weights: SgdConfig,
    /// Learning rate of the weights.
    pub rate: f64,
}

/// State that a step changes besides the weights, and the optimiser of the weights.
#[derive(Debug)]
pub struct Moving<'a> {
    /// Logits of the architecture.
    pub alphas: &'a mut Alphas,
    /// Optimiser of the logits.
    pub adam: &'a mut Adam,
    /// Optimiser with the velocities before the first step. Afterwards they may be on the device, until
    /// [`download_velocities`](super::Supernet::download_velocities).
    pub sgd: &'a Sgd,
}

/// Losses and norms of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepLosses {
    /// Mean cross-entropy of the training batch, in the pass of the weights' gradient.
    pub train_loss: f64,
    /// Number of training images that were classified correctly in that pass.
    pub train_correct: usize,
    /// Mean cross-entropy of the validation batch; `None` if the rule does not use it.
    pub valid_loss: Option<f64>,
    /// Norm of the weights' gradient before clipping.
    pub gradient_norm: f64,
}
