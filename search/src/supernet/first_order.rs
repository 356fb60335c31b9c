//! A step of first order as a whole, for a supernet that makes it where it computes.

use super::Alphas;
use crate::data::Batch;
use crate::optim::{Adam, AdamConfig, Sgd, SgdConfig};

/// What a step is of: the architecture's logits move by the gradients of two losses, then the weights by that of the first (MiLeNAS,
/// algorithm 1).
#[derive(Clone, Copy, Debug)]
pub struct FirstOrder<'a> {
    /// Training images, and those of the other half.
    pub batches: [&'a Batch; 2],
    /// By what the gradient of each loss by the logits is multiplied; a loss of factor 0 is not asked for.
    pub factors: [f32; 2],
    /// Whether the weights' gradient is found before the logits move, in the pass that theirs is from; else in one of its own, after.
    pub two_pass: bool,
    /// By what the logits move.
    pub alphas: AdamConfig,
    /// By what the weights move.
    pub weights: SgdConfig,
    /// The weights' learning rate.
    pub rate: f64,
}

/// What a step moves besides the weights, and what keeps their velocities.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Moving<'a> {
    pub alphas: &'a mut Alphas,
    pub adam: &'a mut Adam,
    /// Has the velocities before the first step; from then on they may be where the supernet computes, until
    /// [`settle`](super::Supernet::settle).
    pub sgd: &'a Sgd,
}

/// What a step saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepLosses {
    /// Mean cross-entropy of the training batch, in the pass that the weights' gradient is from.
    pub train_loss: f64,
    /// Of the training batch, how many were right in that pass.
    pub train_correct: usize,
    /// Mean cross-entropy of the validation batch; `None` where the rule has no use for it.
    pub valid_loss: Option<f64>,
    /// The norm of the weights' gradient before clipping.
    pub gradient_norm: f64,
}
