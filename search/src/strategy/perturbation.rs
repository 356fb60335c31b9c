//! Derivation by perturbation (DARTS-PT, Wang et al., ICLR 2021): the supernet decides one choice after the other by the
//! accuracy that it loses without a candidate, and is trained further in between.

use core::ops::Range;

use milenas_models::Rng;
use milenas_models::space::Space;

use crate::Result;
use crate::config::settings::settings;
use crate::supernet::{Alphas, Rows};

settings! {
    /// Derivation by perturbation, after the epochs of the search.
    #[derive(Copy)]
    pub struct PerturbationConfig {
        /// Epochs of the weights' training after each decision; 5 in DARTS-PT on NAS-Bench-201, 10 in the DARTS space.
        epochs: usize = 1usize, in Range::Count;
        /// Learning rate of these epochs at their start, relative to `search.weights.lr`. The rate falls by a cosine.
        lr: f64 = 0.1, in Range::Between(0.0, 1.0);
    }
}

/// Accuracy and loss of the supernet on the validation images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Fraction of right predictions.
    pub accuracy: f64,
    /// Mean cross-entropy, which decides on equal accuracies.
    pub loss: f64,
}

impl Quality {
    fn is_worse(self, other: Quality) -> bool {
        self.accuracy < other.accuracy || (self.accuracy == other.accuracy && self.loss > other.loss)
    }
}

/// Decisions of a derivation, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decisions {
    stages: Vec<Vec<Decision>>,
}

/// Decision about a part of the architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// Keeps one candidate of a choice.
    Candidate(usize),
    /// Keeps some of the choices of a node.
    Choices(Range<usize>, usize),
}

impl Decisions {
    /// Returns the decisions of a space: first a candidate for every choice, in random order, then the choices that a node
    /// keeps. A stage has one decision for each group of choices, such as the normal and the reduction cell.
    pub fn new(space: &'static dyn Space, seed: u64) -> Decisions {
        let mut stages: Vec<Vec<Decision>> = Vec::new();
        let alphas = Alphas::zeros(space);
        let first_of_nodes = alphas.group_ranges().map(|group| group.len()).max().unwrap_or_default();
        for (number, group) in alphas.group_ranges().enumerate() {
            let mut choices: Vec<usize> = group.clone().collect();
            Rng::new(seed, &format!("perturbation.{number}")).shuffle(&mut choices);
            let decided = choices.into_iter().map(Decision::Candidate).enumerate();
            let nodes = alphas.node_ranges().filter(|node| group.contains(&node.start));
            let kept = |node: Range<usize>| {
                let kept = space.kept_choices().filter(|kept| *kept < node.len());
                kept.map(|kept| Decision::Choices(node, kept))
            };
            let nodes = nodes.filter_map(kept).enumerate().map(|(i, node)| (first_of_nodes + i, node));
            for (stage, decision) in decided.chain(nodes) {
                stages.resize_with(stages.len().max(stage + 1), Vec::new);
                stages[stage].push(decision);
            }
        }
        Decisions { stages }
    }

    /// Returns the number of stages.
    pub fn count(&self) -> usize {
        self.stages.len()
    }

    /// Makes the decisions of a stage: prunes all but the candidate, or the choices, without which the supernet is worst. A
    /// candidate is removed alone, and the weights of the others stay. `none` is never kept, because its removal changes
    /// nothing. `quality` evaluates the supernet with a mixture, a row for each choice.
    ///
    /// # Errors
    /// Fails if `quality` fails.
    pub fn decide(
        &self,
        stage: usize,
        alphas: &mut Alphas,
        quality: &mut dyn FnMut(&Rows) -> Result<Quality>,
    ) -> Result<()> {
        for decision in &self.stages[stage] {
            let mixture = alphas.mixture();
            match decision {
                Decision::Candidate(choice) => {
                    let candidates = &alphas.space().choices()[*choice].candidates;
                    let open = |k: &usize| candidates[*k] != "none" && !alphas.is_pruned(*choice, *k);
                    let ranked = ranked((0..candidates.len()).filter(open), |k| {
                        let mut without = mixture.clone();
                        without[*choice][k] = 0.0;
                        quality(&without)
                    })?;
                    let kept = ranked.first().copied();
                    (0..candidates.len()).filter(|k| Some(*k) != kept).for_each(|k| alphas.prune(*choice, k));
                }
                Decision::Choices(node, kept) => {
                    let open = |choice: &usize| mixture[*choice].iter().any(|weight| *weight > 0.0);
                    let ranked = ranked(node.clone().filter(open), |choice| {
                        let mut without = mixture.clone();
                        without[choice].fill(0.0);
                        quality(&without)
                    })?;
                    ranked.iter().skip(*kept).for_each(|choice| alphas.prune_choice(*choice));
                }
            }
        }
        Ok(())
    }
}

/// Returns the parts in the order of the quality without them, worst first.
fn ranked(
    parts: impl Iterator<Item = usize>,
    mut without: impl FnMut(usize) -> Result<Quality>,
) -> Result<Vec<usize>> {
    let mut found: Vec<(usize, Quality)> = Vec::new();
    for part in parts {
        let quality = without(part)?;
        let at = found.iter().position(|(_, known)| quality.is_worse(*known)).unwrap_or(found.len());
        found.insert(at, (part, quality));
    }
    Ok(found.into_iter().map(|(part, _)| part).collect())
}

#[cfg(test)]
mod tests {
    use milenas_models::space;

    use super::*;

    /// Supernet whose accuracy is the sum of the worths of its weights.
    fn additive(worth: &Rows, mixture: &Rows) -> Quality {
        let pairs = worth.iter().flatten().zip(mixture.iter().flatten());
        Quality { accuracy: pairs.map(|(worth, weight)| f64::from(worth * weight)).sum(), loss: 0.0 }
    }

    /// In an additive game the candidate of the greatest worth is kept, whatever the logits are.
    #[test]
    fn the_worthiest_candidates_and_edges_are_kept() {
        for space in space::SPACES {
            let mut rng = Rng::new(4, "worth");
            let mut alphas = Alphas::init(space, 2);
            let mut worth = alphas.operations.clone();
            worth.iter_mut().flatten().for_each(|worth| *worth = rng.uniform(0.0, 1.0));
            // `none` is worth most, and is not kept nevertheless.
            let choices = space.choices();
            for (row, choice) in worth.iter_mut().zip(&choices) {
                row.iter_mut()
                    .zip(&choice.candidates)
                    .filter(|(_, name)| *name == "none")
                    .for_each(|(w, _)| *w = 9.0);
            }
            let decisions = Decisions::new(space, 7);
            for stage in 0..decisions.count() {
                decisions.decide(stage, &mut alphas, &mut |mixture| Ok(additive(&worth, mixture))).unwrap();
            }
            for row in &mut worth {
                row.iter_mut().filter(|worth| **worth > 8.0).for_each(|worth| *worth = 0.0);
            }
            let mixture = alphas.mixture();
            assert!(mixture.iter().flatten().all(|weight| [0.0, 1.0].contains(weight)), "{}", space.name());
            let [found, expected] = [mixture, worth].map(|rows| space.derive(&rows).unwrap().class());
            assert_eq!(found, expected, "{}", space.name());
        }
    }

    #[test]
    fn stages_have_a_decision_of_every_cell() {
        let count = |space| Decisions::new(space, 1).stages.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(count(&space::NASBENCH201), [1; 6]);
        // 14 edges of both cells, then the nodes with more than two edges.
        assert_eq!(count(&space::DARTS), [2; 17]);
        assert_ne!(Decisions::new(&space::DARTS, 1), Decisions::new(&space::DARTS, 2));
    }

    #[test]
    fn ties_in_accuracy_go_by_the_loss_then_by_the_order() {
        let quality = |accuracy, loss| Ok(Quality { accuracy, loss });
        let all = [quality(0.5, 1.0), quality(0.5, 2.0), quality(0.4, 0.1), quality(0.5, 2.0)];
        assert_eq!(
            ranked(0..4, |i| all[i].as_ref().map(|q| *q).map_err(|_: &crate::Error| unreachable!())).unwrap(),
            [2, 1, 3, 0]
        );
    }
}
