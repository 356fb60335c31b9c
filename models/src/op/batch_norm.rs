//! Batch normalisation (Ioffe and Szegedy, 2015), as PyTorch computes it.

use candle_core::{Tensor, Var};

use super::{Init, Mode, OpContext, ParamRole, ParamSpec, Payload, Shaped, image, one};
use crate::Result;
use crate::graph::Fact;
use crate::kernels::{self, BatchMoments};

/// `(x - mean) / sqrt(var + eps) * weight + bias` per channel of `[N, C, H, W]`.
///
/// Training uses the batch's mean and biased variance, and moves the running statistics by `momentum` towards the
/// mean and the unbiased variance. Evaluation uses the running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// Number of channels.
    pub channels: usize,
    /// Constant added to the variance.
    pub eps: f64,
    /// Weight of a batch in the running statistics.
    pub momentum: f64,
    /// Whether there are a weight and a bias.
    pub affine: bool,
}

impl BatchNorm {
    /// Returns a BatchNorm with PyTorch's defaults: eps 1e-5, momentum 0.1.
    pub fn new(channels: usize, affine: bool) -> Self {
        BatchNorm { channels, eps: 1e-5, momentum: 0.1, affine }
    }

    fn move_towards(&self, running: &Var, batch: &[f32]) -> Result<()> {
        let old = running.as_detached_tensor();
        let new = Tensor::from_slice(batch, batch.len(), old.device())?;
        Ok(running.set(&((old * (1.0 - self.momentum))? + (new * self.momentum)?)?)?)
    }
}

impl Payload for BatchNorm {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        match image(x)? {
            (channels, ..) if channels == self.channels => Ok(x.clone()),
            _ => Err(format!("reads {x}, needs {} channels", self.channels)),
        }
    }

    fn params(&self) -> Vec<ParamSpec> {
        let spec = |role, start| ParamSpec::new(role, &[self.channels], Init::Constant(start));
        let affine = [spec(ParamRole::Weight, 1.0), spec(ParamRole::Bias, 0.0)];
        let running = [spec(ParamRole::RunningMean, 0.0), spec(ParamRole::RunningVar, 1.0)];
        affine.into_iter().filter(|_| self.affine).chain(running).collect()
    }

    fn run(&self, inputs: &[Tensor], context: &OpContext) -> Result<Tensor> {
        let x = &inputs[0];
        let (affine, running) = match self.affine {
            true => (Some((context.param(0), context.param(1))), 2),
            false => (None, 0),
        };
        let (mean, var) = (context.params[running], context.params[running + 1]);
        let moments = match context.mode {
            Mode::Train => {
                let moments = BatchMoments::of_batch(x)?;
                self.move_towards(mean, &moments.mean)?;
                self.move_towards(var, &moments.unbiased())?;
                moments
            }
            Mode::Eval => BatchMoments::running(&mean.as_detached_tensor(), &var.as_detached_tensor())?,
        };
        kernels::batch_norm(x, affine, moments, self.eps, context.mode == Mode::Train, context.form)
    }

    fn text(&self) -> String {
        format!("batch_norm[{} eps {:e} affine {}]", self.channels, self.eps, self.affine)
    }
}
