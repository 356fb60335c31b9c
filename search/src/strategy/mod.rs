//! Differentiable search: one loop; a strategy is only its rule for the architecture's gradient.

pub mod checkpoint;
mod record;
mod search;
pub mod sizes;
mod step;
pub mod stop;

use serde::{Deserialize, Serialize};

pub use record::{COLLAPSE, Ended, EpochRecord, Keeper, Outcome, Recorder, Task};
pub(crate) use search::finite;
pub use search::search;
pub use step::{Step, Stepper};

/// Which passes a step makes, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As the released code: training and validation passes for the architecture, its step, then another training
    /// pass for the weights, which see the new architecture. Three passes.
    Released,
    /// Both gradients of the training batch come from one pass, so the weights' gradient is taken at the old
    /// architecture: a simultaneous update. Two passes.
    TwoPass,
}

/// `dL/dalpha = train * dL_train/dalpha + valid * dL_valid/dalpha`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Coefficients {
    pub train: f32,
    pub valid: f32,
}

/// From lambda to coefficients.
type Rule = fn(f32) -> Coefficients;

/// The first-order rules by name.
const RULES: [(&str, Rule); 3] = [
    // MiLeNAS, equation 6: mixed-level.
    ("milenas", |lambda| Coefficients { train: 1.0, valid: lambda }),
    // DARTS, equation 8 with xi = 0: bilevel.
    ("darts-1st", |_| Coefficients { train: 0.0, valid: 1.0 }),
    // MiLeNAS, equation 3.
    ("single-level", |_| Coefficients { train: 1.0, valid: 0.0 }),
];

impl Coefficients {
    /// Those of a strategy.
    ///
    /// # Errors
    /// An unknown name, with the nearest known one.
    pub fn named(strategy: &str, lambda: f64) -> milenas_models::Result<Self> {
        let rule = RULES.iter().find(|(name, _)| *name == strategy).map(|(_, rule)| rule(lambda as f32));
        rule.ok_or_else(|| milenas_models::Error::unknown("strategy", strategy, RULES.map(|(name, _)| name)))
    }
}
