//! Adam with coupled weight decay, as `torch.optim.Adam` (not AdamW).

use crate::config::settings::settings;

settings! {
    /// Hyperparameters of Adam. All defaults but the rate are those of DARTS, whose rate is 0.0003.
    #[derive(Copy)]
    pub struct AdamConfig {
        /// Learning rate, which is constant. Short searches need a larger one than the paper's 0.0003.
        lr: f64 = 0.006, in Range::Positive;
        /// Decay of the mean of gradients.
        beta1: f64 = 0.5, in Range::Fraction;
        /// Decay of the mean of squared gradients.
        beta2: f64 = 0.999, in Range::Fraction;
        /// Weight decay: L2 term added to the gradient.
        decay: f64 = 1e-3, in Range::NotNegative;
    }
}

const EPS: f64 = 1e-8;

impl AdamConfig {
    /// Returns the factors of the bias correction at step `t`, counted from 1: `lr / (1 - beta1^t)`, and `1 -
    /// beta2^t`.
    pub fn factors(&self, t: i32) -> [f64; 2] {
        [self.lr / (1.0 - self.beta1.powi(t)), 1.0 - self.beta2.powi(t)]
    }
}

/// Adam optimiser, with means of gradients and of squared gradients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adam {
    steps: i32,
    mean: Vec<f64>,
    square: Vec<f64>,
}

impl Adam {
    /// Creates an optimiser before its first step.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of steps, the means, and the means of squares.
    pub fn state(&self) -> (i32, &[f64], &[f64]) {
        (self.steps, &self.mean, &self.square)
    }

    /// Restores an optimiser from a [`state`](Self::state).
    pub fn from_state(steps: i32, mean: Vec<f64>, square: Vec<f64>) -> Self {
        Adam { steps, mean, square }
    }

    /// Updates `w -= lr m' / (sqrt(v') + eps)`, where `m'` and `v'` are the bias-corrected means.
    pub fn step(&mut self, config: &AdamConfig, w: &mut [f32], g: &[f32]) {
        self.steps += 1;
        self.mean.resize(w.len(), 0.0);
        self.square.resize(w.len(), 0.0);
        let AdamConfig { beta1, beta2, decay, .. } = *config;
        let [rate, seen] = config.factors(self.steps);
        for (((w, m), v), g) in w.iter_mut().zip(&mut self.mean).zip(&mut self.square).zip(g) {
            let g = f64::from(*g) + decay * f64::from(*w);
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w = (f64::from(*w) - rate * *m / ((*v / seen).sqrt() + EPS)) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // import torch
    // w = torch.tensor([1.0, -2.0], requires_grad=True)
    // o = torch.optim.Adam([w], 0.1, betas=(0.5, 0.999), weight_decay=0.01)
    // for g in ([0.5, -1.0], [0.25, 0.5], [-1.0, 2.0]): w.grad = torch.tensor(g); o.step(); print(w.tolist())
    const STEPS: [([f32; 2], [f32; 2]); 3] = [
        ([0.5, -1.0], [0.9, -1.9]),
        ([0.25, 0.5], [0.815266, -1.897575]),
        ([-1.0, 2.0], [0.878771, -1.982936]),
    ];

    #[test]
    fn equals_pytorch() {
        let config = AdamConfig { lr: 0.1, beta1: 0.5, beta2: 0.999, decay: 0.01 };
        let (mut adam, mut w) = (Adam::new(), [1.0, -2.0]);
        for (g, expected) in STEPS {
            adam.step(&config, &mut w, &g);
            assert!(w.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{w:?} {expected:?}");
        }
    }
}
