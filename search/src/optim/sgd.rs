//! Stochastic gradient descent with momentum and coupled weight decay, as `torch.optim.SGD`.

use crate::config::settings::settings;

settings! {
    /// Hyperparameters of SGD. The defaults are those of DARTS.
    #[derive(Copy)]
    pub struct SgdConfig {
        /// Learning rate at the start.
        lr: f64 = 0.025, in Range::Positive;
        /// Learning rate at the end of the cosine schedule, at most `lr`.
        lr_min: f64 = 0.0, in Range::NotNegative;
        /// Momentum, without dampening and Nesterov.
        momentum: f64 = 0.9, in Range::Fraction;
        /// Weight decay: L2 term added to the gradient.
        decay: f64 = 3e-4, in Range::NotNegative;
        /// Largest norm of all gradients together; larger gradients are scaled down. 0 for no limit.
        clip: f64 = 5.0, in Range::NotNegative;
    }
}

/// SGD optimiser, with its velocities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sgd {
    velocity: Vec<Vec<f32>>,
}

impl Sgd {
    /// Creates an optimiser without velocities.
    pub fn new() -> Self {
        Self::default()
    }

    /// Updates `v = momentum v + (scale g + decay w)`, `w -= lr v`. The first `v` is the gradient itself.
    pub fn step(&mut self, config: &SgdConfig, lr: f64, scale: f32, index: usize, w: &mut [f32], g: &[f32]) {
        if self.velocity.len() <= index {
            self.velocity.resize(index + 1, Vec::new());
        }
        let velocity = &mut self.velocity[index];
        velocity.resize(w.len(), 0.0);
        let (momentum, decay, lr) = (config.momentum as f32, config.decay as f32, lr as f32);
        for ((w, v), g) in w.iter_mut().zip(velocity).zip(g) {
            *v = momentum * *v + (scale * g + decay * *w);
            *w -= lr * *v;
        }
    }

    /// Updates `w` as [`step`](Self::step) would without clipping, without a change of the velocities.
    pub fn step_ahead(&self, config: &SgdConfig, lr: f64, index: usize, w: &mut [f32], g: &[f32]) {
        let (momentum, decay, lr) = (config.momentum as f32, config.decay as f32, lr as f32);
        let rest = std::iter::repeat(&0.0);
        let velocity = self.velocity.get(index).into_iter().flatten().chain(rest);
        for ((w, v), g) in w.iter_mut().zip(velocity).zip(g) {
            *w -= lr * (momentum * v + (g + decay * *w));
        }
    }

    /// Returns the velocities, by parameter.
    pub fn state(&self) -> &[Vec<f32>] {
        &self.velocity
    }

    /// Restores an optimiser from a [`state`](Self::state).
    pub fn from_state(velocity: Vec<Vec<f32>>) -> Self {
        Sgd { velocity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // import torch
    // w = torch.tensor([1.0, -2.0], requires_grad=True)
    // o = torch.optim.SGD([w], 0.1, momentum=0.9, weight_decay=0.01)
    // for g in ([0.5, -1.0], [0.25, 0.5], [-1.0, 2.0]): w.grad = torch.tensor(g); o.step(); print(w.tolist())
    const STEPS: [([f32; 2], [f32; 2]); 3] = [
        ([0.5, -1.0], [0.949, -1.898]),
        ([0.25, 0.5], [0.877151, -1.854302]),
        ([-1.0, 2.0], [0.911610, -2.013119]),
    ];

    #[test]
    fn equals_pytorch() {
        let config = SgdConfig { lr: 0.1, lr_min: 0.0, momentum: 0.9, decay: 0.01, clip: 0.0 };
        let (mut sgd, mut w) = (Sgd::new(), [1.0, -2.0]);
        for (g, expected) in STEPS {
            sgd.step(&config, 0.1, 1.0, 0, &mut w, &g);
            assert!(w.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{w:?} {expected:?}");
        }
    }
}
