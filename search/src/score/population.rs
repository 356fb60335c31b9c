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
pub struct Judged {
    /// The architecture.
    pub genotype: Genotype,
    /// Its fitness, or its score where nothing is trained.
    pub value: f64,
}

/// Runs a strategy; every judgement in order. The best is the first with the largest value.
///
/// # Errors
/// Those of `score` and `fitness`.
pub fn search(
    strategy: Strategy,
    space: &Space,
    config: &PopulationConfig,
    rng: &mut Rng,
    score: &mut dyn FnMut(&Genotype) -> Result<f64>,
    fitness: &mut dyn FnMut(&Genotype) -> Result<f64>,
) -> Result<Vec<Judged>> {
    let judge = |genotypes: Vec<Genotype>, value: &mut dyn FnMut(&Genotype) -> Result<f64>| {
        let judged = genotypes.into_iter().map(|genotype| Ok(Judged { value: value(&genotype)?, genotype }));
        judged.collect::<Result<Vec<_>>>()
    };
    let draw = |count: usize, rng: &mut Rng| -> Result<Vec<Genotype>> {
        (0..count).map(|_| Ok(space.sample(rng)?)).collect()
    };
    let first = config.size.min(config.trainings);
    match strategy {
        Strategy::Score => judge(draw(config.draws, rng)?, score),
        Strategy::Random => judge(draw(config.trainings, rng)?, fitness),
        Strategy::Evolution => {
            let population = judge(draw(first, rng)?, fitness)?;
            evolve(population, space, config, rng, fitness)
        }
        Strategy::Assisted => {
            let mut scored = judge(draw(config.draws, rng)?, score)?;
            scored.sort_by(|a, b| b.value.total_cmp(&a.value));
            scored.dedup_by(|a, b| a.genotype == b.genotype);
            let best = scored.into_iter().take(first).map(|judged| judged.genotype).collect();
            let population = judge(best, fitness)?;
            evolve(population, space, config, rng, fitness)
        }
    }
}

/// Each child of the fittest of a tournament takes the place of the oldest.
fn evolve(
    mut history: Vec<Judged>,
    space: &Space,
    config: &PopulationConfig,
    rng: &mut Rng,
    fitness: &mut dyn FnMut(&Genotype) -> Result<f64>,
) -> Result<Vec<Judged>> {
    let mut living: VecDeque<usize> = (0..history.len()).collect();
    while history.len() < config.trainings {
        let entrants = (0..config.tournament.max(1)).map(|_| living[rng.below(living.len())]);
        let parent = entrants.fold(living[0], |best, i| {
            if i == best || history[i].value > history[best].value { i } else { best }
        });
        let genotype = space.mutate(&history[parent].genotype, rng)?;
        history.push(Judged { value: fitness(&genotype)?, genotype });
        living.push_back(history.len() - 1);
        living.pop_front();
    }
    Ok(history)
}

/// The first with the largest value.
pub fn best(judged: &[Judged]) -> Option<&Judged> {
    judged.iter().reduce(|best, next| if next.value > best.value { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: PopulationConfig =
        PopulationConfig { draws: 60, trainings: 40, size: 10, tournament: 3, epochs: 1 };

    /// Convolutions are fitness; skips are a score that hints at nothing, or at it.
    fn run(strategy: Strategy, seed: u64) -> (f64, usize) {
        let mut trained = 0;
        let size = |g: &Genotype| g.convolutions()[0] as f64;
        let judged = search(
            strategy,
            &Space::NASBENCH201,
            &CONFIG,
            &mut Rng::new(seed, "population"),
            &mut |g| Ok(size(g)),
            &mut |g| {
                trained += 1;
                Ok(size(g))
            },
        );
        (best(&judged.unwrap()).unwrap().value, trained)
    }

    #[test]
    fn each_judges_as_often_as_it_says() {
        let trained = STRATEGIES.map(|(_, strategy)| run(strategy, 0).1);
        assert_eq!(trained, [0, 40, 40, 40]);
    }

    #[test]
    fn evolution_climbs_and_a_good_score_helps_it() {
        let mean = |strategy| (0..40).map(|seed| run(strategy, seed).0).sum::<f64>() / 40.0;
        let [random, evolution, assisted] =
            [Strategy::Random, Strategy::Evolution, Strategy::Assisted].map(mean);
        assert!(evolution > random + 0.3 && assisted > evolution, "{random} {evolution} {assisted}");
    }
}
