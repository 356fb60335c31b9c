//! Black-box search strategies. They rank whole architectures by a score, by short trainings, or by both.
//!
//! A strategy is one file, with its settings, and one row of the table below. It proposes the next architecture from the
//! history of evaluations, and has no other state: an interrupted search is replayed from its logs.

mod proposer;

use milenas_models::input::ImageSize;
use milenas_models::space::Space;
use milenas_models::{Genotype, Rng};

use crate::config::settings::settings;
use crate::score::Score;
use crate::{Error, Result};

/// Black-box search strategy.
pub trait Strategy: Sync {
    /// Returns the score of the strategy; by default it does not score.
    fn score(&self) -> Option<&'static dyn Score> {
        None
    }

    /// Returns whether the strategy trains the architectures it evaluates; by default it does.
    fn trains(&self) -> bool {
        true
    }

    /// Returns the keys, or the starts of keys, that the strategy uses beside its own: those of the population, and those of
    /// gradient-based searches that it shares.
    fn settings(&self) -> Vec<&'static str>;

    /// Returns whether the strategy obeys a time budget by shorter trainings. Others end early.
    fn shortens(&self) -> bool {
        false
    }

    /// Returns the largest number of evaluations of a kind in a whole search.
    fn evaluations(&self, by: By, config: &PopulationConfig) -> usize {
        match by {
            By::Score if self.score().is_some() => config.draws,
            By::Fitness if self.trains() => config.trainings,
            By::Score | By::Fitness => 0,
        }
    }

    /// Returns the next architecture to evaluate, or `None` at the end of the search.
    ///
    /// # Errors
    /// Fails if no architecture within the limits is found.
    fn ask(&self, history: &History, proposer: &mut Proposer<'_>) -> Result<Option<Proposal>>;

    /// Returns the chosen architecture with its value: the first of the largest fitness, or of the largest score if nothing
    /// was trained.
    fn choose(&self, history: &History) -> Option<Evaluated> {
        let list = if history.trained.is_empty() { &history.scored } else { &history.trained };
        best(list).cloned()
    }

    /// Checks the settings of the strategy in a space.
    ///
    /// # Errors
    /// Fails for settings that do not fit together.
    fn check(&self, _space: &'static dyn Space) -> Result<()> {
        Ok(())
    }
}

/// Architecture to evaluate.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The architecture.
    pub genotype: Genotype,
    /// Kind of its evaluation.
    pub by: By,
    /// Training of a race; `None` for the training of the settings `search.population`.
    pub run: Option<ShortRun>,
}

impl Proposal {
    /// Proposes a score.
    pub fn score(genotype: Genotype) -> Self {
        Proposal { genotype, by: By::Score, run: None }
    }

    /// Proposes a training.
    pub fn fitness(genotype: Genotype) -> Self {
        Proposal { genotype, by: By::Fitness, run: None }
    }
}

/// Training in a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortRun {
    /// Rung, counted from 1.
    pub rung: usize,
    /// Number of steps.
    pub steps: usize,
    /// Size of the images.
    pub size: ImageSize,
    /// Seed of initial weights, order and augmentation.
    pub seed: u64,
}

/// Number of trainings of a rung, with the steps and the images of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RungSize {
    /// Number of trainings.
    pub trainings: usize,
    /// Number of steps.
    pub steps: usize,
    /// Whether the images have their whole size.
    pub whole: bool,
}

/// Evaluations so far, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Scored architectures.
    pub scored: Vec<Evaluated>,
    /// Trained architectures.
    pub trained: Vec<Evaluated>,
}

/// Declares the table: description, name in settings, which is that of the module, and type.
macro_rules! strategies {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ident,)+) => {
        $(mod $name; pub use $name::$type;)+

        settings! {
            /// Settings of the strategies that evaluate whole architectures, a group for each.
            pub struct StrategyConfig {
                $($(#[doc = $doc])+ $name: $type = $type::default();)+
            }
        }

        /// Returns the names of all strategies with their descriptions.
        pub fn choices() -> Vec<(&'static str, &'static str)> {
            vec![$((stringify!($name), concat!($($doc),+).trim_ascii().trim_end_matches('.'))),+]
        }

        impl StrategyConfig {
            /// Returns a strategy with its settings, or `None` for an unknown name.
            pub fn named(&self, name: &str) -> Option<&dyn Strategy> {
                match name {
                    $(stringify!($name) => Some(&self.$name),)+
                    _ => None,
                }
            }
        }
    };
}

pub use proposer::{Proposer, SizedGenotype};
pub use race::{CHANCE, standings};

strategies! {
    /// best score of many samples, without training (NASWOT, algorithm 1).
    naswot: NaswotSearch,
    /// regularised evolution from the best scores (NASWOT, algorithm 2).
    area: Area,
    /// best of a few trained samples.
    random: Random,
    /// regularised evolution of trained samples (Real et al., AAAI 2019).
    evolution: Evolution,
    /// short trainings of the largest networks in three rungs, each with fewer networks and more steps.
    race: Race,
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
    /// Training of a race.
    pub run: Option<ShortRun>,
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
    fn fitness(&mut self, genotype: &Genotype, run: Option<ShortRun>) -> Result<f64>;

    /// Returns the size of an architecture without operations that do not reach the output, or `None` if it is not within
    /// the limits.
    fn live_size(&mut self, genotype: &Genotype) -> Result<Option<u64>>;

    /// Returns the trainings of each rung of a race, shortened to the time budget if there is one. `largest` is a network
    /// whose steps take the longest.
    fn plan(&mut self, rungs: &[RungSize], largest: &Genotype) -> Result<Vec<ShortRun>>;

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
    /// Evaluated architectures in order.
    pub evaluated: Vec<Evaluated>,
    /// Chosen architecture, with the value that chose it.
    pub chosen: Evaluated,
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
    strategy: &dyn Strategy,
    space: &'static dyn Space,
    config: &PopulationConfig,
    rng: &mut Rng,
    evaluator: &mut dyn Evaluator,
) -> Result<PopulationOutcome> {
    let (mut history, mut pool, mut late) = (History::default(), None, false);
    loop {
        let proposer = &mut Proposer { space, config, rng, evaluator, pool: &mut pool };
        let Some(Proposal { genotype, by, run }) = strategy.ask(&history, proposer)? else { break };
        let (value, list) = match by {
            By::Score => (evaluator.score(&genotype)?, &mut history.scored),
            By::Fitness => (evaluator.fitness(&genotype, run)?, &mut history.trained),
        };
        list.push(Evaluated { genotype, value, run });
        let done = |by, list: &[Evaluated]| list.len() >= strategy.evaluations(by, config);
        if !strategy.shortens() && evaluator.out_of_time() {
            late = !(done(By::Score, &history.scored) && done(By::Fitness, &history.trained));
            break;
        }
    }
    let none = || Error::Data { problem: "no architecture was evaluated".into() };
    let chosen = strategy.choose(&history).ok_or_else(none)?;
    let History { scored, trained } = history;
    Ok(match trained.is_empty() {
        true => PopulationOutcome { evaluated: scored, chosen, by: By::Score, late },
        false => PopulationOutcome { evaluated: trained, chosen, by: By::Fitness, late },
    })
}

/// Returns the first architecture with the largest value.
pub fn best(evaluated: &[Evaluated]) -> Option<&Evaluated> {
    evaluated.iter().reduce(|best, next| if next.value > best.value { next } else { best })
}

#[cfg(test)]
mod tests {
    use milenas_models::space;

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

        fn fitness(&mut self, genotype: &Genotype, _: Option<ShortRun>) -> Result<f64> {
            self.trained += 1;
            Ok(genotype.convolutions()[0] as f64)
        }

        fn live_size(&mut self, genotype: &Genotype) -> Result<Option<u64>> {
            Ok(Some(genotype.live().convolutions()[0] as u64))
        }

        fn plan(&mut self, rungs: &[RungSize], _: &Genotype) -> Result<Vec<ShortRun>> {
            let size = ImageSize::square(16);
            let run =
                |(i, rung): (usize, &RungSize)| ShortRun { rung: i + 1, steps: rung.steps, size, seed: 0 };
            Ok(rungs.iter().enumerate().map(run).collect())
        }

        fn out_of_time(&self) -> bool {
            self.most > 0 && self.scored + self.trained >= self.most
        }
    }

    fn named(name: &str) -> &'static dyn Strategy {
        static ALL: std::sync::LazyLock<StrategyConfig> = std::sync::LazyLock::new(StrategyConfig::default);
        ALL.named(name).unwrap()
    }

    fn outcome(strategy: &str, seed: u64, evaluator: &mut BudgetCounts) -> PopulationOutcome {
        let rng = &mut Rng::new(seed, "population");
        search(named(strategy), &space::NASBENCH201, &CONFIG, rng, evaluator).unwrap()
    }

    fn run(strategy: &str, seed: u64) -> f64 {
        outcome(strategy, seed, &mut BudgetCounts::default()).chosen.value
    }

    #[test]
    fn each_strategy_makes_the_configured_evaluations() {
        let counts = choices().into_iter().map(|(name, _)| {
            let mut evaluator = BudgetCounts::default();
            assert!(!outcome(name, 0, &mut evaluator).late);
            let found = (evaluator.scored, evaluator.trained);
            let (strategy, of) = (named(name), |by| named(name).evaluations(by, &CONFIG));
            assert_eq!(found, (of(By::Score), of(By::Fitness)), "{name}");
            assert_eq!((found.0 > 0, found.1 > 0), (strategy.score().is_some(), strategy.trains()), "{name}");
            found
        });
        assert_eq!(counts.collect::<Vec<_>>(), [(60, 0), (60, 40), (0, 40), (0, 40), (512, 43)]);
    }

    #[test]
    fn a_search_cut_by_time_is_a_prefix_of_the_whole() {
        let all = choices().into_iter().map(|(name, _)| name);
        for name in all.filter(|name| !named(name).shortens()) {
            // `area` is compared to `naswot`, as it only scores before its first training.
            let whole = if name == "area" { "naswot" } else { name };
            let whole = outcome(whole, 0, &mut BudgetCounts::default());
            for most in [1, 7, 25] {
                let cut = outcome(name, 0, &mut BudgetCounts { most, ..BudgetCounts::default() });
                assert!(
                    cut.late && cut.by == whole.by && cut.evaluated == whole.evaluated[..most],
                    "{name} {most}"
                );
            }
        }
    }

    #[test]
    fn evolution_climbs_and_a_good_score_helps_it() {
        let mean = |strategy: &str| (0..40).map(|seed| run(strategy, seed)).sum::<f64>() / 40.0;
        let [random, evolution, assisted] = ["random", "evolution", "area"].map(mean);
        assert!(evolution > random + 0.3 && assisted > evolution, "{random} {evolution} {assisted}");
    }
}
