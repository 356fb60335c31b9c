//! Settings of a search.

use milenas_models::Genotype;
use milenas_models::space::{self, Space};

use super::settings::settings;
use crate::optim::{AdamConfig, SgdConfig, cosine};
use crate::relaxation::{self, Relaxation, RelaxationConfig, SearchProgress};
use crate::strategy::black_box::{PopulationConfig, Strategy, StrategyConfig};
use crate::strategy::perturbation::{Decisions, PerturbationConfig};
use crate::strategy::stages::{self, Stage};
use crate::strategy::stop::StopConfig;
use crate::strategy::{self, Compat, Derivation, Order};
use crate::supernet::Alphas;
use crate::{Error, Result};

/// Name of the candidate that is no connection.
const NONE: &str = "none";

settings! {
    /// Settings of a search.
    pub struct SearchConfig {
        /// Search space: the candidates of an edge and the wiring of the cells.
        space: String = "darts", in Range::one_of(space::SPACES.map(|space| (space.name(), space.doc()))), option "space";
        /// Strategy: a rule for the architecture's gradient, or a strategy that evaluates whole architectures.
        strategy: String = "milenas", in Range::one_of(strategy::choices()), option "strategy";
        /// Passes of a step, and their order.
        order: Order = Order::TwoPass, in Range::one_of([
            ("released", "three passes, the architecture first, as the released code"),
            ("two-pass", "both gradients of the training batch from one pass"),
        ]);
        /// Number of epochs at the start that use `search.bilevel_strategy`, as the gradual run of the released code.
        bilevel_epochs: usize = 0usize, option "bilevel-epochs";
        /// Strategy of the first `search.bilevel_epochs` epochs.
        bilevel_strategy: String = "darts-1st";
        /// Later stages of a progressive search, as `EPOCH:KEEP:PARTIAL` separated by commas, e.g. `25:4:2`: from an epoch on
        /// every choice has its KEEP best candidates, and these see 1/PARTIAL of the channels (DrNAS). Momentum starts anew.
        stages: String = "", option "stages";
        /// Number of epochs at the start of each stage that train only the weights; 15 of 50 in PC-DARTS.
        warmup_epochs: usize = 0usize, option "warmup-epochs";
        /// Whether derivations exclude `none`, in spaces that derive it: a network without a path becomes impossible.
        exclude_none: bool = false, option "exclude-none";
        /// Derivation of the architecture at the end.
        derive: Derivation = Derivation::Mixture, in Range::one_of([
            ("mixture", "the candidates of the largest weights"),
            ("pt", "perturbation: the candidates whose removal costs the supernet most accuracy, decided one by one (DARTS-PT)"),
        ]), option "derive";
        /// Settings of the derivation by perturbation.
        perturbation: PerturbationConfig = PerturbationConfig::default();
        /// Deviations of the released MiLeNAS code that are reproduced.
        compat: Compat = Compat::None, in Range::one_of([
            ("none", "as the paper"),
            (
                "released",
                "no gradient clipping, no momentum in the unrolled step, lambda on the training loss",
            ),
        ]), option "compat";
        /// Relaxation of the choices, which gives the mixture of the candidates in a pass.
        mixture: String = "softmax", in Range::one_of(relaxation::choices()), option "mixture";
        /// Number of passes over the training split.
        epochs: usize = 8usize, in Range::Count;
        /// Maximum number of steps per epoch; 0 for no limit.
        steps: usize = 40usize;
        /// Images per step.
        batch: usize = 32usize, in Range::Count;
        /// Channels of a node in the first cells. Fewer than 16 save no time: 16 are computed together.
        channels: usize = 16usize, in Range::Count;
        /// Divisor K of the channels: candidates see the first 1/K of a state's channels, and each edge into a node
        /// has a weight (PC-DARTS), which saves time and memory. 1 for whole states; 4 is common.
        partial_channels: usize = 1usize, option "partial-channels";
        /// Number of cells.
        layers: usize = 5usize, in Range::Count;
        /// Weight of the validation loss relative to the training loss (equation 6), for milenas and milenas-2nd.
        lambda: f64 = 1.0, in Range::NotNegative, option "lambda";
        /// Steps between checkpoints, besides the one after every epoch; 0 for none.
        checkpoint_steps: usize = 0usize, resume Resume::AnyValue;
        /// Fraction of the training images that trains the weights; the rest evaluates the architecture.
        train_portion: f64 = 0.5, in Range::Between(0.01, 0.99);
        /// Optimiser of the weights.
        weights: SgdConfig = SgdConfig { lr: 0.05, lr_min: 0.005, ..SgdConfig::default() };
        /// Optimiser of the architecture's logits.
        alphas: AdamConfig = AdamConfig::default();
        /// Settings of the strategies that evaluate whole architectures.
        population: PopulationConfig = PopulationConfig::default();
        /// Settings of the strategies that evaluate whole architectures, beside those of the population.
        strategies: StrategyConfig = StrategyConfig::default();
        /// Settings of the relaxations.
        relaxation: RelaxationConfig = RelaxationConfig::default();
        /// Conditions for an early end, and limits of the chosen network.
        stop: StopConfig = StopConfig::default();
    }
}

impl SearchConfig {
    /// Returns the search space.
    ///
    /// # Errors
    /// Fails for an unknown name.
    pub fn space(&self) -> Result<&'static dyn Space> {
        Ok(space::named(&self.space)?)
    }

    /// Returns the architecture's logits before the first step.
    pub fn first_alphas(&self, space: &'static dyn Space, seed: u64) -> Alphas {
        let alphas = Alphas::init(space, seed);
        if self.partial_channels > 1 { alphas.with_edges(seed) } else { alphas }
    }

    /// Derives the architecture of some logits.
    ///
    /// # Errors
    /// Does not fail for logits of the search space.
    pub fn derive(&self, alphas: &Alphas) -> Result<Genotype> {
        let mut mixture = alphas.mixture();
        if self.exclude_none {
            for (row, choice) in mixture.iter_mut().zip(alphas.space().choices()) {
                let none = row.iter_mut().zip(choice.candidates).filter(|(_, name)| name == NONE);
                none.for_each(|(weight, _)| *weight = f32::NEG_INFINITY);
            }
        }
        Ok(alphas.space().derive(&mixture)?)
    }

    /// Returns the strategy if it evaluates whole architectures, or `None` for a gradient-based one.
    pub fn black_box(&self) -> Option<&dyn Strategy> {
        self.strategies.named(&self.strategy)
    }

    /// Returns the relaxation of the choices.
    ///
    /// # Errors
    /// Fails for an unknown name.
    pub fn relaxation(&self) -> Result<&dyn Relaxation> {
        Ok(self.relaxation.named(&self.mixture)?)
    }

    /// Returns the later stages of a progressive search.
    ///
    /// # Errors
    /// Fails for another form of text.
    pub fn later_stages(&self) -> Result<Vec<Stage>> {
        stages::parse(&self.stages)
            .map_err(|problem| Error::Config { place: "search.stages".into(), problem })
    }

    /// Returns the stage that an epoch belongs to. The first one has all candidates.
    pub fn stage(&self, epoch: usize) -> Stage {
        let first = Stage { epoch: 0, keep: usize::MAX, partial: self.partial_channels };
        let later = self.later_stages().unwrap_or_default();
        later.into_iter().take_while(|stage| stage.epoch <= epoch).last().unwrap_or(first)
    }

    /// Whether an epoch trains only the weights.
    pub fn is_warmup(&self, epoch: usize) -> bool {
        epoch >= self.epochs || epoch - self.stage(epoch).epoch < self.warmup_epochs
    }

    /// Returns the relaxation of an epoch. Between the decisions of a derivation by perturbation it is the softmax.
    ///
    /// # Errors
    /// Fails for an unknown name.
    pub fn relaxation_in(&self, epoch: usize) -> Result<&dyn Relaxation> {
        if epoch < self.epochs { self.relaxation() } else { Ok(&self.relaxation.softmax) }
    }

    /// Returns the decisions of the derivation by perturbation, or `None` if the mixture decides.
    ///
    /// # Errors
    /// Fails for an unknown space.
    pub fn decisions(&self, seed: u64) -> Result<Option<Decisions>> {
        let space = self.space()?;
        Ok((self.derive == Derivation::Pt).then(|| Decisions::new(space, seed)))
    }

    /// Returns the number of epochs, with those between the decisions of the derivation.
    pub fn all_epochs(&self) -> usize {
        let decisions = self.decisions(0).ok().flatten().map_or(0, |decisions| decisions.count() - 1);
        self.epochs + decisions * self.perturbation.epochs
    }

    /// Returns the learning rate of the weights in an epoch.
    pub fn rate(&self, epoch: usize) -> f64 {
        let SgdConfig { lr, lr_min, .. } = self.weights;
        if epoch < self.epochs {
            return cosine(lr, lr_min, epoch, self.epochs);
        }
        let first = lr * self.perturbation.lr;
        cosine(first, lr_min.min(first), epoch - self.epochs, self.all_epochs() - self.epochs)
    }

    /// Returns the position of an epoch in the search.
    pub fn progress(&self, epoch: usize) -> SearchProgress {
        SearchProgress { epoch, epochs: self.epochs }
    }
}
