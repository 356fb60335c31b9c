//! Search strategies. Gradient-based strategies share one loop and differ in the rule of the architecture's
//! gradient.

pub mod black_box;
pub mod checkpoint;
pub mod perturbation;
mod record;
mod rule;
mod search;
pub mod sizes;
pub mod stages;
mod step;
pub mod stop;

use serde::{Deserialize, Serialize};

pub use record::{
    COLLAPSE, EpochRecord, ProgressSink, SearchCheckpointer, SearchOutcome, SearchTask, StopReason,
};
pub use rule::{Losses, Rule, Split};
pub(crate) use search::finite;
pub use search::search;
pub use step::{StepContext, StepLosses, Stepper};

/// Returns the names of all strategies with their descriptions, those by gradients first.
pub fn choices() -> Vec<(&'static str, &'static str)> {
    rule::RULES.map(|rule| (rule.name, rule.doc)).into_iter().chain(black_box::choices()).collect()
}

/// Passes of a search step, and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Three passes, as the released code: training and validation passes for the architecture's gradient, its
    /// step, then another training pass with the new architecture for the weights.
    Released,
    /// Two passes: both gradients of the training batch come from one pass, so the weights' gradient is taken
    /// at the old architecture. Applies to first-order rules.
    TwoPass,
}

/// Derivation of the architecture from a trained supernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Derivation {
    /// By the weights of the candidates.
    Mixture,
    /// By perturbation ([`perturbation`]).
    Pt,
}

/// Deviations of the released code that a search reproduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// None: the search follows the paper.
    None,
    /// All: the weights' gradient is not clipped, the unrolled step has no momentum, and lambda weighs the
    /// training loss.
    Released,
}
