//! Rules for the architecture's gradient. They are one formula with different coefficients.

use super::Compat;
use crate::Result;
use crate::supernet::UpdateFn;

/// Batch of a step, by its split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Batch of the training split, which trains the weights.
    Train,
    /// Batch of the validation split.
    Valid,
}

/// Losses of a step, as functions of architecture and weights.
pub trait Losses {
    /// Copy of all weights and of everything else that a pass changes.
    type Saved;

    /// Returns `dL/dalpha` of a split's loss at the current weights. With `weights` the gradient with respect
    /// to the weights is computed too.
    fn gradient(&mut self, half: Split, weights: bool) -> Result<Vec<f32>>;

    /// Calls `visit` for every weight tensor with the gradient computed last.
    fn visit(&mut self, visit: &mut UpdateFn) -> Result<()>;

    /// Moves the weights as their optimiser would for the gradient computed last. The optimiser's state does
    /// not change.
    fn step_ahead(&mut self) -> Result<()>;

    /// Returns the learning rate of that step.
    fn rate(&self) -> f64;

    /// Returns the state that [`restore`](Self::restore) needs.
    fn save(&mut self) -> Result<Self::Saved>;

    /// Restores the saved state bit for bit.
    fn restore(&mut self, saved: &Self::Saved) -> Result<()>;
}

/// Coefficients of the architecture's gradient: `dL/dalpha` of `L = train * L_train(w*, alpha) + valid *
/// L_valid(w*, alpha)`. Without unrolling, `w*` is `w`. With unrolling, `w*` are the weights after their next
/// step `w - xi * (momentum * v + dL_train/dw + decay * w)`, which depend on `alpha` too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Coefficient of the training loss.
    pub train: f32,
    /// Coefficient of the validation loss.
    pub valid: f32,
    /// Whether `w*` is the result of the next weight step (second order).
    pub unrolled: bool,
}

/// Row of the table of rules.
#[derive(Clone, Copy, Debug)]
pub struct NamedRule {
    /// Name of the strategy in settings.
    pub name: &'static str,
    /// Description, with its source.
    pub doc: &'static str,
    /// Function from the coefficients of training and validation loss to the rule.
    rule: fn([f32; 2]) -> Rule,
}

/// Gradient-based strategies.
pub const RULES: [NamedRule; 5] = [
    NamedRule {
        name: "milenas",
        doc: "gradients of both losses (mixed-level; MiLeNAS, equation 6)",
        rule: |[train, valid]| Rule { train, valid, unrolled: false },
    },
    NamedRule {
        name: "milenas-2nd",
        doc: "gradients of both losses, second order (MiLeNAS, section 3.1, with lambda on the validation term)",
        rule: |[train, valid]| Rule { train, valid, unrolled: true },
    },
    NamedRule {
        name: "darts-1st",
        doc: "gradient of the validation loss (bilevel; DARTS, equation 6 with xi = 0)",
        rule: |_| Rule { train: 0.0, valid: 1.0, unrolled: false },
    },
    NamedRule {
        name: "darts-2nd",
        doc: "gradient of the validation loss, second order (DARTS, equation 7)",
        rule: |_| Rule { train: 0.0, valid: 1.0, unrolled: true },
    },
    NamedRule {
        name: "single-level",
        doc: "gradient of the training loss (MiLeNAS, equation 3)",
        rule: |_| Rule { train: 1.0, valid: 0.0, unrolled: false },
    },
];

/// Step length of the finite difference before division by the norm (DARTS, section 2.3).
const DIFFERENCE: f64 = 0.01;

impl Rule {
    /// Returns the rule of a strategy. With [`Compat::Released`], lambda weighs the training loss.
    ///
    /// # Errors
    /// Fails for an unknown name, and names the nearest known one.
    pub fn named(strategy: &str, lambda: f64, compat: Compat) -> milenas_models::Result<Self> {
        let factors = match compat {
            Compat::None => [1.0, lambda as f32],
            Compat::Released => [lambda as f32, 1.0],
        };
        let found = RULES.iter().find(|rule| rule.name == strategy).map(|found| (found.rule)(factors));
        found.ok_or_else(|| milenas_models::Error::unknown("strategy", strategy, Self::names()))
    }

    /// Returns the names of all rules.
    pub fn names() -> [&'static str; RULES.len()] {
        RULES.map(|rule| rule.name)
    }

    fn terms(&self) -> [(Split, f32); 2] {
        [(Split::Train, self.train), (Split::Valid, self.valid)]
    }

    /// Returns the gradient with respect to the architecture. With `weights`, a first-order rule also computes
    /// the gradient of the training loss with respect to the weights.
    pub fn gradient<L: Losses>(&self, losses: &mut L, weights: bool) -> Result<Vec<f32>> {
        if self.unrolled {
            return self.second_order(losses);
        }
        let mut sum = Vec::new();
        for (half, factor) in self.terms() {
            let weights = weights && half == Split::Train;
            if factor != 0.0 || weights {
                add(&mut sum, &losses.gradient(half, weights)?, factor);
            }
        }
        Ok(sum)
    }

    /// Returns `dL/dalpha(w*, alpha) - xi * d2 L_train/(dalpha dw) * v` with `v = dL/dw*`. The product is
    /// approximated by `(dL_train/dalpha(w + e v) - dL_train/dalpha(w - e v)) / 2e`. The formula is linear in
    /// the two losses, so one difference serves both terms of MiLeNAS; the paper uses one for each.
    fn second_order<L: Losses>(&self, losses: &mut L) -> Result<Vec<f32>> {
        losses.gradient(Split::Train, true)?;
        let start = losses.save()?;
        losses.step_ahead()?;
        let (mut sum, mut v) = (Vec::new(), Vec::<Vec<f32>>::new());
        for (half, factor) in self.terms().into_iter().filter(|(_, factor)| *factor != 0.0) {
            add(&mut sum, &losses.gradient(half, true)?, factor);
            losses.visit(&mut |index, _, gradient| {
                v.resize(v.len().max(index + 1), Vec::new());
                add(&mut v[index], gradient, factor);
            })?;
        }
        let norm = v.iter().flatten().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            let e = DIFFERENCE / norm;
            for (sign, e) in [(-1.0, e), (1.0, -e)] {
                losses.restore(&start)?;
                losses.visit(&mut |index, w, _| {
                    let direction = v.get(index).into_iter().flatten();
                    w.iter_mut().zip(direction).for_each(|(w, v)| *w += e as f32 * v);
                })?;
                let factor = sign * losses.rate() * norm / (2.0 * DIFFERENCE);
                add(&mut sum, &losses.gradient(Split::Train, false)?, factor as f32);
            }
        }
        losses.restore(&start)?;
        Ok(sum)
    }
}

fn add(sum: &mut Vec<f32>, term: &[f32], factor: f32) {
    sum.resize(term.len(), 0.0);
    sum.iter_mut().zip(term).for_each(|(sum, term)| *sum += factor * term);
}

#[cfg(test)]
mod tests;
