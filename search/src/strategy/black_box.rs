//! Searches that rank architectures instead of descending: by a score, by short trainings, or by both.

use std::collections::VecDeque;

use milenas_models::{Genotype, Rng, Space};
use serde::{Deserialize, Serialize};

use crate::Result;

/// The strategies by name.
pub const STRATEGIES: [(&str, Strategy); 4] = [
    ("naswot", Strategy::Score),
    ("area", Strategy::Assisted),
    ("random", Strategy::Random),
    ("evolution", Strategy::Evolution),
];

/// How candidates are found and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The best score of many draws; nothing is trained (NASWOT, algorithm 1).
    Score,
    /// Regularised evolution that starts from the best scores of many draws (NASWOT, algorithm 2).
    Assisted,
    /// The fittest of some draws.
    Random,
    /// Regularised evolution from some draws (Real et al., AAAI 2019).
    Evolution,
}

impl Strategy {
    /// Whether it trains what it judges.
    pub fn trains(self) -> bool {
        match self {
            Strategy::Score => false,
            Strategy::Assisted | Strategy::Random | Strategy::Evolution => true,
        }
    }

    /// The strategy of a name, if it is one of these.
    pub fn named(name: &str) -> Option<Strategy> {
        STRATEGIES.iter().find(|(known, _)| *known == name).map(|(_, strategy)| *strategy)
    }
}

/// How much is drawn and trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PopulationConfig {
    /// Architectures that are scored.
    pub draws: usize,
    /// Architectures whose fitness is measured, the first population among them.
    pub trainings: usize,
    /// Architectures that live at a time.
    pub size: usize,
    /// Of how many the fittest becomes a parent.
    pub tournament: usize,
    /// Epochs of the training that measures fitness.
    pub epochs: usize,
}

/// One judged architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The architecture.
    pub genotype: Genotype,
    /// Its fitness, or its score where nothing is trained.
    pub value: f64,
}

/// What a strategy asks of an architecture.
pub trait Evaluator {
    /// The first of what `draw` gives that may be found at all.
    ///
    /// # Errors
    /// Those of `draw`, and that there seems to be none.
    fn pick(&mut self, draw: &mut dyn FnMut() -> Result<Genotype>) -> Result<Genotype>;

    /// A score without training.
    fn score(&mut self, genotype: &Genotype) -> Result<f64>;

    /// How it does after a short training.
    fn fitness(&mut self, genotype: &Genotype) -> Result<f64>;

    /// Whether nothing more may be judged.
    fn out_of_time(&self) -> bool;
}

/// How an architecture is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Without training.
    Score,
    /// By a short training.
    Fitness,
}

/// What a strategy has judged.
#[derive(Clone, Debug)]
pub struct PopulationOutcome {
    /// Every judgement in order; the best is the first with the largest value.
    pub judged: Vec<Evaluated>,
    /// What its values are: scores, too, where time was over before the first training.
    pub by: By,
    /// Whether time was over before all was judged.
    pub late: bool,
}

/// Runs a strategy, which judges once whatever the time.
///
/// # Errors
/// Those of `judge`.
pub fn search(
    strategy: Strategy,
    space: &Space,
    config: &PopulationConfig,
    rng: &mut Rng,
    judge: &mut dyn Evaluator,
) -> Result<PopulationOutcome> {
    let draw = |count: usize, rng: &mut Rng, judge: &mut dyn Evaluator| -> Result<Vec<Genotype>> {
        (0..count).map(|_| judge.pick(&mut || Ok(space.sample(rng)?))).collect()
    };
    let &PopulationConfig { draws, trainings, size, .. } = config;
    let first = size.min(trainings);
    let fit = match strategy {
        Strategy::Score => return all(draw(draws, rng, judge)?, By::Score, judge),
        Strategy::Random => return all(draw(trainings, rng, judge)?, By::Fitness, judge),
        Strategy::Evolution => draw(first, rng, judge)?,
        Strategy::Assisted => {
            let mut scored = all(draw(draws, rng, judge)?, By::Score, judge)?;
            if scored.late || judge.out_of_time() {
                scored.late = true;
                return Ok(scored);
            }
            scored.judged.sort_by(|a, b| b.value.total_cmp(&a.value));
            scored.judged.dedup_by(|a, b| a.genotype == b.genotype);
            scored.judged.into_iter().take(first).map(|judged| judged.genotype).collect()
        }
    };
    let population = all(fit, By::Fitness, judge)?;
    if population.late {
        return Ok(population);
    }
    evolve(population.judged, space, config, rng, judge)
}

/// Judges all of them, as long as there is time.
fn all(genotypes: Vec<Genotype>, by: By, judge: &mut dyn Evaluator) -> Result<PopulationOutcome> {
    let count = genotypes.len();
    let mut judged = Vec::with_capacity(count);
    for genotype in genotypes {
        let value = match by {
            By::Score => judge.score(&genotype)?,
            By::Fitness => judge.fitness(&genotype)?,
        };
        judged.push(Evaluated { genotype, value });
        if judge.out_of_time() {
            break;
        }
    }
    let late = judged.len() < count;
    Ok(PopulationOutcome { judged, by, late })
}

/// Each child of the fittest of a tournament takes the place of the oldest.
fn evolve(
    mut history: Vec<Evaluated>,
    space: &Space,
    config: &PopulationConfig,
    rng: &mut Rng,
    judge: &mut dyn Evaluator,
) -> Result<PopulationOutcome> {
    let mut living: VecDeque<usize> = (0..history.len()).collect();
    while history.len() < config.trainings && !judge.out_of_time() {
        let entrants = (0..config.tournament.max(1)).map(|_| living[rng.below(living.len())]);
        let parent = entrants.fold(living[0], |best, i| {
            if i == best || history[i].value > history[best].value { i } else { best }
        });
        let genotype = judge.pick(&mut || Ok(space.mutate(&history[parent].genotype, rng)?))?;
        history.push(Evaluated { value: judge.fitness(&genotype)?, genotype });
        living.push_back(history.len() - 1);
        living.pop_front();
    }
    let late = history.len() < config.trainings;
    Ok(PopulationOutcome { judged: history, by: By::Fitness, late })
}

/// The first with the largest value.
pub fn best(judged: &[Evaluated]) -> Option<&Evaluated> {
    judged.iter().reduce(|best, next| if next.value > best.value { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: PopulationConfig =
        PopulationConfig { draws: 60, trainings: 40, size: 10, tournament: 3, epochs: 1 };

    /// Convolutions are fitness, and a score that hints at it.
    #[derive(Default)]
    struct BudgetCounts {
        scored: usize,
        trained: usize,
        /// Judgements that there is time for; 0 for all.
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

    fn outcome(strategy: Strategy, seed: u64, judge: &mut BudgetCounts) -> PopulationOutcome {
        let rng = &mut Rng::new(seed, "population");
        search(strategy, &Space::NASBENCH201, &CONFIG, rng, judge).unwrap()
    }

    fn run(strategy: Strategy, seed: u64) -> f64 {
        best(&outcome(strategy, seed, &mut BudgetCounts::default()).judged).unwrap().value
    }

    #[test]
    fn each_judges_as_often_as_it_says() {
        let judged = STRATEGIES.map(|(_, strategy)| {
            let mut judge = BudgetCounts::default();
            assert!(!outcome(strategy, 0, &mut judge).late);
            (judge.scored, judge.trained)
        });
        assert_eq!(judged, [(60, 0), (60, 40), (0, 40), (0, 40)]);
    }

    #[test]
    fn what_time_is_left_for_is_how_the_whole_begins() {
        for (_, strategy) in STRATEGIES {
            // `area` has not trained anything yet.
            let assisted = strategy == Strategy::Assisted;
            let whole =
                outcome(if assisted { Strategy::Score } else { strategy }, 0, &mut BudgetCounts::default());
            for most in [1, 7, 25] {
                let cut = outcome(strategy, 0, &mut BudgetCounts { most, ..BudgetCounts::default() });
                assert!(
                    cut.late && cut.by == whole.by && cut.judged == whole.judged[..most],
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
