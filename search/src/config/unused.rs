//! Settings that the chosen strategy does not use.

use super::{Config, SearchConfig, broken};
use crate::Result;
use crate::strategy::Derivation;

/// Keys, or the starts of keys, of a gradient-based search. A strategy that evaluates whole architectures names those that it
/// uses nevertheless.
const BY_GRADIENTS: [&str; 14] = [
    "search.order",
    "search.bilevel_epochs",
    "search.bilevel_strategy",
    "search.stages",
    "search.warmup_epochs",
    "search.derive",
    "search.perturbation.",
    "search.epochs",
    "search.steps",
    "search.batch",
    "search.checkpoint_steps",
    "search.weights.",
    "search.alphas.",
    "search.relaxation.",
];

/// Keys of the short trainings of strategies that evaluate whole architectures.
pub const SHORT_TRAININGS: [&str; 4] =
    ["search.population.epochs", "search.steps", "search.batch", "search.weights."];

impl Config {
    /// Checks that a search uses all keys of `KEY=VALUE` texts.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the first key without effect.
    pub fn check_used(&self, sets: &[String]) -> Result<()> {
        let keys = sets.iter().filter_map(|set| set.split_once('=')).map(|(key, _)| key.trim());
        match keys.filter_map(|key| Some((key, self.search.unused(key)?))).next() {
            Some((key, because)) => {
                let problem = format!("`{key}` has no effect: {because}. help: leave it out");
                Err(broken("setting `set`", problem))
            }
            None => Ok(()),
        }
    }
}

impl SearchConfig {
    /// Returns why a search does not use a key, or `None` if it does.
    fn unused(&self, key: &str) -> Option<String> {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| key.starts_with(prefix));
        let (strategy, own) = (&self.strategy, format!("search.strategies.{}.", self.strategy));
        if key.starts_with("search.strategies.") && !key.starts_with(&own) {
            return Some(format!("the strategy is {strategy}"));
        }
        let relaxation = format!("search.relaxation.{}.", self.mixture);
        let idle = match self.black_box() {
            Some(strategy) => {
                (starts(&BY_GRADIENTS) || starts(&["search.population."])) && !starts(&strategy.settings())
            }
            None if starts(&["search.population."]) => true,
            None if starts(&["search.relaxation."]) && !key.starts_with(&relaxation) => {
                return Some(format!("the mixture is {}", self.mixture));
            }
            None if starts(&["search.perturbation."]) && self.derive != Derivation::Pt => {
                return Some("only search.derive=pt uses it".into());
            }
            None => false,
        };
        idle.then(|| format!("the strategy {strategy} does not use it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_without_effect_are_refused() {
        let check = |sets: &str| {
            let sets: Vec<String> = sets.split_whitespace().map(String::from).collect();
            Config::resolve("smoke", None, &sets).unwrap().check_used(&sets)
        };
        for (sets, problem) in [
            (
                "search.strategy=race search.steps=9",
                "`search.steps` has no effect: the strategy race does not use it",
            ),
            ("search.strategy=race search.population.size=9", "the strategy race does not use it"),
            ("search.strategy=race search.weights.lr=0.1", "the strategy race does not use it"),
            ("search.strategy=random search.population.tournament=2", "the strategy random does not use it"),
            ("search.strategy=naswot search.batch=8", "the strategy naswot does not use it"),
            ("search.strategy=area search.epochs=3", "the strategy area does not use it"),
            ("search.strategies.race.second=3", "the strategy is milenas"),
            ("search.population.draws=3", "the strategy milenas does not use it"),
            ("search.relaxation.gumbel.tau_max=3.0", "the mixture is softmax"),
            ("search.perturbation.epochs=3", "only search.derive=pt uses it"),
        ] {
            let message = check(sets).unwrap_err().to_string();
            assert!(message.contains(problem), "{sets}: {message}");
        }
        for sets in [
            "search.strategy=race search.strategies.race.second=3 search.channels=8 search.train_portion=0.6 seed=3",
            "search.strategy=area search.population.draws=9 search.population.tournament=2 search.weights.lr=0.1",
            "search.strategy=evolution search.population.size=3 search.steps=9 search.population.epochs=2",
            "search.strategy=random search.population.trainings=3 search.batch=8",
            "search.strategy=naswot search.population.draws=3",
            "search.derive=pt search.perturbation.epochs=3 search.epochs=4 train.epochs=9",
            "search.mixture=gumbel search.relaxation.gumbel.tau_max=3.0",
        ] {
            check(sets).unwrap();
        }
    }
}
