//! Differentiable search: one loop; a strategy is only its rule for the architecture's gradient.

pub mod black_box;
pub mod checkpoint;
pub mod mixture;
mod record;
mod rule;
mod search;
pub mod sizes;
mod step;
pub mod stop;

use serde::{Deserialize, Serialize};

pub use mixture::{Mixing, MixtureKind};
pub use record::{
    COLLAPSE, EpochRecord, ProgressSink, SearchCheckpointer, SearchOutcome, SearchTask, StopReason,
};
pub use rule::{Half, Losses, Rule};
pub(crate) use search::finite;
pub use search::search;
pub use step::{StepContext, StepLosses, Stepper};

/// Which passes a step makes, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As the released code: training and validation passes for the architecture, its step, then another training
    /// pass for the weights, which see the new architecture. Three passes.
    Released,
    /// Both gradients of the training batch come from one pass, so the weights' gradient is taken at the old
    /// architecture: a simultaneous update. Two passes. For rules of the first order.
    TwoPass,
}

/// Which oddities of the released code a search reproduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// None: as the paper has it.
    None,
    /// The weights' gradient is not clipped, the unrolled step has no momentum, lambda is on the training term.
    Released,
}
