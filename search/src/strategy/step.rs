//! One step of the search: the architecture first, then the weights (MiLeNAS, algorithm 1; order of the released code).

use super::{Coefficients, Order};
use crate::Result;
use crate::config::SearchConfig;
use crate::data::Batch;
use crate::optim::{Adam, Sgd, clip_factor};
use crate::supernet::{Alphas, CANDIDATES, Evaluation, Mixture, Supernet, Want};

/// The optimisers' state and the rule.
#[derive(Clone, Debug)]
pub struct Stepper {
    rule: Coefficients,
    order: Order,
    adam: Adam,
    sgd: Sgd,
}

/// What a step saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// Mean cross-entropy of the training batch.
    pub train_loss: f64,
    /// Of the training batch, how many were right.
    pub train_correct: usize,
    /// Mean cross-entropy of the validation batch; `None` where the rule has no use for it.
    pub valid_loss: Option<f64>,
    /// The norm of the weights' gradient before clipping.
    pub gradient_norm: f64,
}

const MIXTURE: Want = Want { weights: false, mixture: true };

impl Stepper {
    /// # Errors
    /// An unknown strategy.
    pub fn new(config: &SearchConfig) -> Result<Self> {
        let rule = Coefficients::named(&config.strategy, config.lambda)?;
        Ok(Stepper { rule, order: config.order, adam: Adam::new(), sgd: Sgd::new() })
    }

    /// The optimisers with their state, to keep.
    pub fn optimisers(&self) -> (&Adam, &Sgd) {
        (&self.adam, &self.sgd)
    }

    /// Goes on with optimisers that were kept.
    pub fn restore(&mut self, adam: Adam, sgd: Sgd) {
        (self.adam, self.sgd) = (adam, sgd);
    }

    /// Moves `alphas` by the mixed gradient, then the weights of `net` by that of the training batch at `lr`.
    pub fn step(
        &mut self,
        net: &mut dyn Supernet,
        alphas: &mut Alphas,
        [train, valid]: [&Batch; 2],
        config: &SearchConfig,
        lr: f64,
    ) -> Result<Step> {
        let mixture = alphas.mixture();
        let mut gradient = mixture.each_ref().map(|table| vec![[0.0; CANDIDATES]; table.len()]);
        let mut seen = Step::default();

        let two_pass = self.order == Order::TwoPass;
        let want = Want { weights: two_pass, mixture: self.rule.train != 0.0 };
        if want.weights || want.mixture {
            let found = net.evaluate(train, &mixture, want)?;
            add(&mut gradient, &found.mixture_gradient, self.rule.train);
            seen.training(&found);
        }
        if self.rule.valid != 0.0 {
            // The weights' gradient of the training batch stays what it is: none is wanted here.
            let found = net.evaluate(valid, &mixture, MIXTURE)?;
            add(&mut gradient, &found.mixture_gradient, self.rule.valid);
            seen.valid_loss = Some(found.loss);
        }
        self.move_alphas(alphas, &gradient, config);

        if !two_pass {
            let found = net.evaluate(train, &alphas.mixture(), Want { weights: true, mixture: false })?;
            seen.training(&found);
        }
        seen.gradient_norm = net.gradient_norm()?;
        let scale = clip_factor(seen.gradient_norm, config.weights.clip);
        let sgd = &mut self.sgd;
        net.update(&mut |index, w, g| sgd.step(&config.weights, lr, scale, index, w, g))?;
        Ok(seen)
    }

    fn move_alphas(&mut self, alphas: &mut Alphas, by_mixture: &Mixture, config: &SearchConfig) {
        let gradient = alphas.gradient(by_mixture).concat();
        let rows = alphas.0[0].len();
        let mut flat = alphas.0.concat();
        self.adam.step(&config.alphas, flat.as_flattened_mut(), gradient.as_flattened());
        let reduce = flat.split_off(rows);
        alphas.0 = [flat, reduce];
    }
}

impl Step {
    fn training(&mut self, found: &Evaluation) {
        (self.train_loss, self.train_correct) = (found.loss, found.correct);
    }
}

fn add(sum: &mut Mixture, term: &Mixture, factor: f32) {
    for (sum, term) in sum.iter_mut().zip(term) {
        for (sum, term) in sum.as_flattened_mut().iter_mut().zip(term.as_flattened()) {
            *sum += factor * term;
        }
    }
}
