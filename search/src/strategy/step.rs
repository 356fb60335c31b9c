//! Search step: the architecture first, then the weights (MiLeNAS, algorithm 1; in the order of the released
//! code).

use milenas_models::{Rng, Weights};

use super::{Compat, Losses, Order, Rule, Split};
use crate::Result;
use crate::config::SearchConfig;
use crate::data::Batch;
use crate::optim::{Adam, Sgd, SgdConfig};
use crate::relaxation::{PassMixture, Relaxation};
pub use crate::supernet::first_order::StepLosses;
use crate::supernet::first_order::{FirstOrder, Moving};
use crate::supernet::{Alphas, GradRequest, PassResult, Supernet, UpdateFn};

/// Optimisers of a search with their state.
#[derive(Clone, Debug, Default)]
pub struct Stepper {
    adam: Adam,
    sgd: Sgd,
}

/// Position of a step in the run.
#[derive(Clone, Copy, Debug)]
pub struct StepContext {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, counted from 0.
    pub epoch: usize,
    /// Step in the epoch, counted from 0.
    pub step: usize,
    /// Learning rate of the weights.
    pub lr: f64,
}

impl Stepper {
    /// Returns the optimisers with their state, for a checkpoint; `net` is the supernet that they update.
    ///
    /// # Errors
    /// Fails if the device fails.
    pub fn optimisers(&mut self, net: &mut dyn Supernet) -> Result<(&Adam, &Sgd)> {
        net.download_velocities(&mut self.sgd)?;
        Ok((&self.adam, &self.sgd))
    }

    /// Restores optimisers from a checkpoint.
    pub fn restore(&mut self, adam: Adam, sgd: Sgd) {
        (self.adam, self.sgd) = (adam, sgd);
    }

    /// Resets the optimiser of the weights.
    pub(super) fn forget_velocities(&mut self) {
        self.sgd = Sgd::new();
    }

    /// Updates `alphas` by the rule's gradient, then the weights of `net` by the gradient of the training
    /// batch.
    ///
    /// # Errors
    /// Fails for an unknown strategy.
    pub fn step(
        &mut self,
        net: &mut dyn Supernet,
        alphas: &mut Alphas,
        batches: [&Batch; 2],
        config: &SearchConfig,
        at: StepContext,
    ) -> Result<StepLosses> {
        if config.is_warmup(at.epoch) {
            return self.warm_up(net, alphas, batches[0], config, at);
        }
        let rule = rule(config, at)?;
        let two_pass = config.order == Order::TwoPass && !rule.unrolled;
        if rule.unrolled {
            net.download_velocities(&mut self.sgd)?;
        }
        let descent = descent(config);
        // Names every term of a rule: one that is added has to reach the device, too.
        let Rule { train, valid, unrolled } = rule;
        let relaxation = config.relaxation()?;
        if !unrolled && relaxation.is_softmax() {
            let how = FirstOrder {
                batches,
                factors: [train, valid],
                two_pass,
                alphas: config.alphas,
                weights: descent,
                rate: at.lr,
            };
            let moving = Moving { alphas, adam: &mut self.adam, sgd: &self.sgd };
            if let Some(seen) = net.first_order(moving, &how)? {
                return Ok(seen);
            }
        }
        let mut losses = self.losses(net, alphas, batches, config, relaxation, at);
        let gradient = regularised(rule.gradient(&mut losses, two_pass)?, relaxation, losses.alphas);
        let (mut seen, passes) = (losses.seen, losses.passes);
        alphas.update(|logits| self.adam.step(&config.alphas, logits, &gradient));

        if !two_pass {
            let pass = sample(relaxation, alphas, net, config, at, passes);
            let want = GradRequest { weights: true, mixture: false };
            let found = net.evaluate_sites(batches[0], &pass.sites(net.config()), want)?;
            seen.note(Split::Train, &found);
        }
        seen.gradient_norm = net.sgd_step(&mut self.sgd, &descent, at.lr)?;
        Ok(seen)
    }

    /// Updates the weights of `net` by the gradient of the training batch. The logits do not move.
    fn warm_up(
        &mut self,
        net: &mut dyn Supernet,
        alphas: &Alphas,
        batch: &Batch,
        config: &SearchConfig,
        at: StepContext,
    ) -> Result<StepLosses> {
        let pass = sample(config.relaxation_in(at.epoch)?, alphas, net, config, at, 0);
        let want = GradRequest { weights: true, mixture: false };
        let mut seen = StepLosses::default();
        seen.note(Split::Train, &net.evaluate_sites(batch, &pass.sites(net.config()), want)?);
        seen.gradient_norm = net.sgd_step(&mut self.sgd, &descent(config), at.lr)?;
        Ok(seen)
    }

    /// Returns the rule's gradient with respect to all logits, concatenated, as a step would compute it. Only
    /// running statistics change.
    pub fn gradient(
        &self,
        net: &mut dyn Supernet,
        alphas: &Alphas,
        batches: [&Batch; 2],
        config: &SearchConfig,
        at: StepContext,
    ) -> Result<Vec<f32>> {
        let relaxation = config.relaxation()?;
        let mut losses = self.losses(net, alphas, batches, config, relaxation, at);
        Ok(regularised(rule(config, at)?.gradient(&mut losses, false)?, relaxation, alphas))
    }

    fn losses<'a>(
        &'a self,
        net: &'a mut dyn Supernet,
        alphas: &'a Alphas,
        batches: [&'a Batch; 2],
        config: &'a SearchConfig,
        relaxation: &'a dyn Relaxation,
        at: StepContext,
    ) -> OfBatches<'a> {
        OfBatches {
            net,
            alphas,
            batches,
            relaxation,
            sgd: &self.sgd,
            config,
            at,
            passes: 0,
            seen: StepLosses::default(),
        }
    }
}

/// Returns the settings of the weights' optimiser. The released code does not clip.
fn descent(config: &SearchConfig) -> SgdConfig {
    let clip = if config.compat == Compat::Released { 0.0 } else { config.weights.clip };
    SgdConfig { clip, ..config.weights }
}

fn rule(config: &SearchConfig, at: StepContext) -> Result<Rule> {
    let bilevel = at.epoch < config.bilevel_epochs;
    let name = if bilevel { &config.bilevel_strategy } else { &config.strategy };
    Ok(Rule::named(name, config.lambda, config.compat)?)
}

/// Adds the gradient of the relaxation's term of the logits.
fn regularised(mut gradient: Vec<f32>, relaxation: &dyn Relaxation, alphas: &Alphas) -> Vec<f32> {
    if let Some(term) = relaxation.regulariser(alphas) {
        gradient.iter_mut().zip(term.flat()).for_each(|(sum, term)| *sum += term);
    }
    gradient
}

/// Samples the mixture of pass `pass` of a step.
fn sample(
    relaxation: &dyn Relaxation,
    alphas: &Alphas,
    net: &dyn Supernet,
    config: &SearchConfig,
    at: StepContext,
    pass: usize,
) -> Box<dyn PassMixture> {
    let StepContext { seed, epoch, step, .. } = at;
    let purpose = format!("{}/{epoch}/{step}/{pass}", config.mixture);
    relaxation.sample(alphas, net.config(), config.progress(epoch), &mut || Rng::new(seed, &purpose))
}

/// Losses of a step's two batches.
struct OfBatches<'a> {
    net: &'a mut dyn Supernet,
    alphas: &'a Alphas,
    batches: [&'a Batch; 2],
    relaxation: &'a dyn Relaxation,
    sgd: &'a Sgd,
    config: &'a SearchConfig,
    at: StepContext,
    passes: usize,
    seen: StepLosses,
}

impl Losses for OfBatches<'_> {
    type Saved = Weights;

    fn gradient(&mut self, half: Split, weights: bool) -> Result<Vec<f32>> {
        let pass = sample(self.relaxation, self.alphas, self.net, self.config, self.at, self.passes);
        self.passes += 1;
        let sites = pass.sites(self.net.config());
        let batch = self.batches[usize::from(half == Split::Valid)];
        let found = self.net.evaluate_sites(batch, &sites, GradRequest { weights, mixture: true })?;
        self.seen.note(half, &found);
        let gradient = pass.gradient(self.alphas, self.net.config(), &found.mixture_gradient);
        Ok(gradient.flat())
    }

    fn visit(&mut self, visit: &mut UpdateFn) -> Result<()> {
        self.net.update(visit)
    }

    fn step_ahead(&mut self) -> Result<()> {
        let released = self.config.compat == Compat::Released;
        let momentum = if released { 0.0 } else { self.config.weights.momentum };
        let config = SgdConfig { momentum, ..self.config.weights };
        let (sgd, lr) = (self.sgd, self.at.lr);
        self.net.update(&mut |index, w, g| sgd.step_ahead(&config, lr, index, w, g))
    }

    fn rate(&self) -> f64 {
        self.at.lr
    }

    fn save(&mut self) -> Result<Weights> {
        self.net.weights()
    }

    fn restore(&mut self, saved: &Weights) -> Result<()> {
        self.net.load(saved)
    }
}

impl StepLosses {
    fn note(&mut self, half: Split, found: &PassResult) {
        match half {
            Split::Train => (self.train_loss, self.train_correct) = (found.loss, found.correct),
            Split::Valid => self.valid_loss = Some(found.loss),
        }
    }
}
