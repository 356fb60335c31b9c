//! Black-box search strategies. They rank whole architectures by a score, by short trainings, or by both.

use std::collections::VecDeque;

use milenas_models::{Genotype, Rng, Space};

use crate::Result;
use crate::config::settings::settings;

/// Strategies by name.
pub const STRATEGIES: [(&str, Strategy); 4] = [
    ("naswot", Strategy::Score),
    ("area", Strategy::Assisted),
    ("random", Strategy::Random),
    ("evolution", Strategy::Evolution),
];

/// Names of the strategies with their descriptions.
pub(super) const CHOICES: [(&str, &str); STRATEGIES.len()] = [
    ("naswot", "best score of many samples, without training (NASWOT, algorithm 1)"),
    ("area", "regularised evolution from the best scores (NASWOT, algorithm 2)"),
    ("random", "best of a few trained samples"),
    ("evolution", "regularised evolution of trained samples (Real et al., AAAI 2019)"),
];

/// Black-box search strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Takes the best score of many samples, without training (NASWOT, algorithm 1).
    Score,
    /// Regularised evolution that starts from the best scores of many samples (NASWOT, algorithm 2).
    Assisted,
    /// Takes the fittest of a few random samples.
    Random,
    /// Regularised evolution from random samples (Real et al., AAAI 2019).
    Evolution,
}

impl Strategy {
    /// Returns whether the strategy trains the architectures it evaluates.
    pub fn trains(self) -> bool {
        match self {
            Strategy::Score => false,
            Strategy::Assisted | Strategy::Random | Strategy::Evolution => true,
        }
    }

    /// Returns the strategy of a name, or `None` if the name is unknown.
    pub fn named(name: &str) -> Option<Strategy> {
        STRATEGIES.iter().find(|(known, _)| *known == name).map(|(_, strategy)| *strategy)
    }
}

settings! {
    /// Sizes of a black-box search.
    #[derive(Copy)]
    pub struct PopulationConfig {
        /// Number of architectures that naswot and area score; 10, 100 and 1000 in the NASWOT paper.
        draws: usize = 100usize, in Range::Count;
        /// Number of architectures that area, random and evolution train, including the first population.
        trainings: usize = 10usize, in Range::Count;
        /// Size of the population; 10 in the regularised evolution of NAS-Bench-201.
        size: usize = 5usize, in Range::Count;
        /// Number of candidates in a tournament; the fittest one becomes a parent.
        tournament: usize = 3usize, in Range::Count;
        /// Epochs of the training that measures fitness.
        epochs: usize = 1usize, in Range::Count;
    }
}

/// Architecture with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The architecture.
    pub genotype: Genotype,
    /// Fitness, or the score where nothing is trained.
    pub value: f64,
}

/// Evaluations that a strategy requests.
pub trait Evaluator {
    /// Calls `draw` until an architecture satisfies the limits, and returns that architecture.
    ///
    /// # Errors
    /// Fails if `draw` fails, or if no architecture within the limits is found.
    fn pick(&mut self, draw: &mut dyn FnMut() -> Result<Genotype>) -> Result<Genotype>;

    /// Returns the training-free score of an architecture.
    fn score(&mut self, genotype: &Genotype) -> Result<f64>;

    /// Returns the validation accuracy of an architecture after a short training.
    fn fitness(&mut self, genotype: &Genotype) -> Result<f64>;

    /// Returns whether the time budget is used up.
    fn out_of_time(&self) -> bool;
}

/// Kind of evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Training-free score.
    Score,
    /// Short training.
    Fitness,
}

/// Result of a black-box search.
#[derive(Clone, Debug)]
pub struct PopulationOutcome {
    /// Evaluated architectures in order; the best one is the first with the largest value.
    pub evaluated: Vec<Evaluated>,
    /// Kind of the values. They are scores too where the time budget ended the search before the first
    /// training.
    pub by: By,
    /// Whether the time budget ended the search early.
    pub late: bool,
}

/// Runs a strategy. At least one architecture is evaluated, even without time.
///
/// # Errors
/// Fails if an evaluation by `evaluator` fails.
pub fn search(
    strategy: Strategy,
    space: &Space,
    config: &PopulationConfig,
    rng: &mut Rng,
    evaluator: &mut dyn Evaluator,
) -> Result<PopulationOutcome> {
    let draw = |count: usize, rng: &mut Rng, evaluator: &mut dyn Evaluator| -> Result<Vec<Genotype>> {
        (0..count).map(|_| evaluator.pick(&mut || Ok(space.sample(rng)?))).collect()
    };
    let &PopulationConfig { draws, trainings, size, .. } = config;
    let first = size.min(trainings);
    let fit = match strategy {
        Strategy::Score => return all(draw(draws, rng, evaluator)?, By::Score, evaluator),
        Strategy::Random => return all(draw(trainings, rng, evaluator)?, By::Fitness, evaluator),
        Strategy::Evolution => draw(first, rng, evaluator)?,
        Strategy::Assisted => {
            let mut scored = all(draw(draws, rng, evaluator)?, By::Score, evaluator)?;
            if scored.late || evaluator.out_of_time() {
                scored.late = true;
                return Ok(scored);
            }
            scored.evaluated.sort_by(|a, b| b.value.total_cmp(&a.value));
            scored.evaluated.dedup_by(|a, b| a.genotype == b.genotype);
            scored.evaluated.into_iter().take(first).map(|judged| judged.genotype).collect()
        }
    };
    let population = all(fit, By::Fitness, evaluator)?;
    if population.late {
        return Ok(population);
    }
    evolve(population.evaluated, space, config, rng, evaluator)
}

/// Evaluates the architectures in order until the time budget is used up.
fn all(genotypes: Vec<Genotype>, by: By, evaluator: &mut dyn Evaluator) -> Result<PopulationOutcome> {
    let count = genotypes.len();
    let mut judged = Vec::with_capacity(count);
    for genotype in genotypes {
        let value = match by {
            By::Score => evaluator.score(&genotype)?,
            By::Fitness => evaluator.fitness(&genotype)?,
        };
        judged.push(Evaluated { genotype, value });
        if evaluator.out_of_time() {
            break;
        }
    }
    let late = judged.len() < count;
    Ok(PopulationOutcome { evaluated: judged, by, late })
}

/// Runs regularised evolution: each child of a tournament's winner replaces the oldest member of the
/// population.
fn evolve(
    mut history: Vec<Evaluated>,
    space: &Space,
    config: &PopulationConfig,
    rng: &mut Rng,
    evaluator: &mut dyn Evaluator,
) -> Result<PopulationOutcome> {
    let mut living: VecDeque<usize> = (0..history.len()).collect();
    while history.len() < config.trainings && !evaluator.out_of_time() {
        let entrants = (0..config.tournament.max(1)).map(|_| living[rng.below(living.len())]);
        let parent = entrants.fold(living[0], |best, i| {
            if i == best || history[i].value > history[best].value { i } else { best }
        });
        let genotype = evaluator.pick(&mut || Ok(space.mutate(&history[parent].genotype, rng)?))?;
        history.push(Evaluated { value: evaluator.fitness(&genotype)?, genotype });
        living.push_back(history.len() - 1);
        living.pop_front();
    }
    let late = history.len() < config.trainings;
    Ok(PopulationOutcome { evaluated: history, by: By::Fitness, late })
}

/// Returns the first architecture with the largest value.
pub fn best(judged: &[Evaluated]) -> Option<&Evaluated> {
    judged.iter().reduce(|best, next| if next.value > best.value { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: PopulationConfig =
        PopulationConfig { draws: 60, trainings: 40, size: 10, tournament: 3, epochs: 1 };

    /// Evaluator whose score and fitness are the number of convolutions.
    #[derive(Default)]
    struct BudgetCounts {
        scored: usize,
        trained: usize,
        /// Number of evaluations that fit into the time budget; 0 for no limit.
        most: usize,
    }

    impl Evaluator for BudgetCounts {
        fn pick(&mut self, draw: &mut dyn FnMut() -> Result<Genotype>) -> Result<Genotype> {
            draw()
        }

        fn score(&mut self, genotype: &Genotype) -> Result<f64> {
            self.scored += 1;
            Ok(genotype.convolutions()[0] as f64)
        }

        fn fitness(&mut self, genotype: &Genotype) -> Result<f64> {
            self.trained += 1;
            Ok(genotype.convolutions()[0] as f64)
        }

        fn out_of_time(&self) -> bool {
            self.most > 0 && self.scored + self.trained >= self.most
        }
    }

    fn outcome(strategy: Strategy, seed: u64, evaluator: &mut BudgetCounts) -> PopulationOutcome {
        let rng = &mut Rng::new(seed, "population");
        search(strategy, &Space::NASBENCH201, &CONFIG, rng, evaluator).unwrap()
    }

    fn run(strategy: Strategy, seed: u64) -> f64 {
        best(&outcome(strategy, seed, &mut BudgetCounts::default()).evaluated).unwrap().value
    }

    #[test]
    fn each_strategy_makes_the_configured_evaluations() {
        let judged = STRATEGIES.map(|(_, strategy)| {
            let mut evaluator = BudgetCounts::default();
            assert!(!outcome(strategy, 0, &mut evaluator).late);
            (evaluator.scored, evaluator.trained)
        });
        assert_eq!(judged, [(60, 0), (60, 40), (0, 40), (0, 40)]);
    }

    #[test]
    fn a_search_cut_by_time_is_a_prefix_of_the_whole() {
        for (_, strategy) in STRATEGIES {
            // `area` is compared to `naswot`, as it only scores before its first training.
            let assisted = strategy == Strategy::Assisted;
            let whole =
                outcome(if assisted { Strategy::Score } else { strategy }, 0, &mut BudgetCounts::default());
            for most in [1, 7, 25] {
                let cut = outcome(strategy, 0, &mut BudgetCounts { most, ..BudgetCounts::default() });
                assert!(
                    cut.late && cut.by == whole.by && cut.evaluated == whole.evaluated[..most],
                    "{strategy:?} {most}"
                );
            }
        }
    }

    #[test]
    fn evolution_climbs_and_a_good_score_helps_it() {
        let mean = |strategy| (0..40).map(|seed| run(strategy, seed)).sum::<f64>() / 40.0;
        let [random, evolution, assisted] =
            [Strategy::Random, Strategy::Evolution, Strategy::Assisted].map(mean);
        assert!(evolution > random + 0.3 && assisted > evolution, "{random} {evolution} {assisted}");
    }
}
