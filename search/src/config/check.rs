//! Checks of configuration values and of their combinations.

use std::fmt;
use std::time::Duration;

use milenas_models::genotype::Wiring;
use milenas_models::input::LARGEST;

use super::{Config, DataConfig, SearchConfig, broken};
use crate::optim::SgdConfig;
use crate::strategy::black_box::{STRATEGIES, Strategy};
use crate::strategy::{Compat, MixtureKind, Rule};
use crate::{Error, Result};

/// Largest value of a count.
const MOST: usize = 1 << 20;

/// Range of values that a setting allows.
enum Allowed {
    /// Closed interval.
    Between(f64, f64),
    /// Interval from 0 to the value of another key, which is named.
    UpTo(f64, String),
    /// Values of at least 0 and below 1.
    Fraction,
    /// Finite values above 0.
    Positive,
    /// Finite values of at least 0.
    NotNegative,
}

impl Allowed {
    fn holds(&self, x: f64) -> bool {
        match *self {
            Allowed::Between(low, high) => (low..=high).contains(&x),
            Allowed::UpTo(high, _) => (0.0..=high).contains(&x),
            Allowed::Fraction => (0.0..1.0).contains(&x),
            Allowed::Positive => x > 0.0 && x.is_finite(),
            Allowed::NotNegative => x >= 0.0 && x.is_finite(),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Between(low, high) => write!(f, "{low} to {high}"),
            Allowed::UpTo(high, key) => write!(f, "0 to {high}, which `{key}` is. help: set both"),
            Allowed::Fraction => write!(f, "at least 0 and less than 1"),
            Allowed::Positive => write!(f, "a finite number above 0"),
            Allowed::NotNegative => write!(f, "a finite number of 0 or more"),
        }
    }
}

fn value(key: impl fmt::Display, found: impl fmt::Display, expected: impl fmt::Display) -> Error {
    broken("values", format!("`{key}` is {found}, expected {expected}"))
}

fn counts(keys: impl IntoIterator<Item = (&'static str, usize)>) -> Result<()> {
    match keys.into_iter().find(|(_, n)| !(1..=MOST).contains(n)) {
        Some((key, n)) => Err(value(key, n, format_args!("1 to {MOST}"))),
        None => Ok(()),
    }
}

fn numbers<K: fmt::Display>(keys: impl IntoIterator<Item = (K, f64, Allowed)>) -> Result<()> {
    match keys.into_iter().find(|(_, x, allowed)| !allowed.holds(*x)) {
        Some((key, x, allowed)) => Err(value(key, x, allowed)),
        None => Ok(()),
    }
}

impl Config {
    /// Checks all values.
    ///
    /// # Errors
    /// Names the first invalid value by its key, with the values that are allowed.
    pub(super) fn check(&self) -> Result<()> {
        let Config { data, augment, search, train, .. } = self;
        data.check()?;
        search.check_rules()?;
        search.check_stop()?;
        counts([
            ("search.population.draws", search.population.draws),
            ("search.population.trainings", search.population.trainings),
            ("search.population.size", search.population.size),
            ("search.population.tournament", search.population.tournament),
            ("search.population.epochs", search.population.epochs),
            ("search.epochs", search.epochs),
            ("search.batch", search.batch),
            ("search.channels", search.channels),
            ("search.layers", search.layers),
            ("train.epochs", train.epochs),
            ("train.batch", train.batch),
            ("train.channels", train.channels),
            ("train.layers", train.layers),
        ])?;
        check_parts(search.channels, search.partial_channels)?;
        if search.space()?.wiring == Wiring::Complete && search.partial_channels > 1 {
            let problem = "`search.partial_channels` above 1 is for the darts space. help: leave it at 1 for nasbench201";
            return Err(broken("values", problem));
        }
        use Allowed::{Between, Fraction, NotNegative, Positive};
        numbers([
            ("augment.crop", augment.crop, Between(0.0, 1.0)),
            ("search.lambda", search.lambda, NotNegative),
            ("search.tau_max", search.tau_max, Between(0.01, 1000.0)),
            ("search.tau_min", search.tau_min, Between(0.01, search.tau_max)),
            ("search.train_portion", search.train_portion, Between(0.01, 0.99)),
            ("search.alphas.lr", search.alphas.lr, Positive),
            ("search.alphas.beta1", search.alphas.beta1, Fraction),
            ("search.alphas.beta2", search.alphas.beta2, Fraction),
            ("search.alphas.decay", search.alphas.decay, NotNegative),
            ("train.auxiliary", train.auxiliary, Between(0.0, 100.0)),
            ("train.drop_path", train.drop_path, Between(0.0, 0.99)),
            ("train.cutout", train.cutout, Between(0.0, 1.0)),
            ("train.resized_crop", train.resized_crop, Between(0.0, 1.0)),
            ("train.jitter", train.jitter, Between(0.0, 1.0)),
            ("train.smoothing", train.smoothing, Between(0.0, 1.0)),
            ("train.ema", train.ema, Between(0.0, 0.999_999)),
            ("train.lr_factor", train.lr_factor, Between(0.0, 1.0)),
        ])?;
        sgd("search.weights", &search.weights)?;
        sgd("train.weights", &train.weights)
    }
}

impl DataConfig {
    /// Checks the image sizes. A `resize` above twice the size is a mistake: evaluation would see less than a
    /// quarter of the image.
    fn check(&self) -> Result<()> {
        let DataConfig { size, resize, .. } = *self;
        if size > LARGEST {
            return Err(value("data.size", size, format_args!("0 to {LARGEST}")));
        }
        let most = (2 * size).min(LARGEST);
        if resize == 0 || (size > 0 && (size..=most).contains(&resize)) {
            return Ok(());
        }
        let expected = match size {
            0 => "0, as `data.size` is 0. help: set both, or data.resize=0".into(),
            _ => format!(
                "0, or {size} to {most} as `data.size` is {size}. help: set both, or data.resize=0 for {size}"
            ),
        };
        Err(value("data.resize", resize, expected))
    }
}

fn sgd(group: &str, config: &SgdConfig) -> Result<()> {
    let SgdConfig { lr, lr_min, momentum, decay, clip } = *config;
    let key = |name: &str| format!("{group}.{name}");
    numbers([
        (key("lr"), lr, Allowed::Positive),
        (key("lr_min"), lr_min, Allowed::UpTo(lr, key("lr"))),
        (key("momentum"), momentum, Allowed::Fraction),
        (key("decay"), decay, Allowed::NotNegative),
        (key("clip"), clip, Allowed::NotNegative),
    ])
}

impl SearchConfig {
    /// Checks the rules of the epochs: they are known, fit the mixture, and use the settings that are not at
    /// their defaults.
    fn check_rules(&self) -> Result<()> {
        let SearchConfig { strategy, bilevel_strategy, bilevel_epochs, epochs, lambda, compat, .. } = self;
        if Strategy::named(bilevel_strategy).is_some() {
            let expected = format!("a gradient-based strategy: {}", Rule::names().join(", "));
            return Err(value("search.bilevel_strategy", bilevel_strategy, expected));
        }
        let bilevel = rule(bilevel_strategy, *lambda, *compat)?;
        if Strategy::named(strategy).is_some() {
            return self.check_black_box();
        }
        let mut rules = vec![(strategy, rule(strategy, *lambda, *compat)?)];
        if bilevel_epochs > epochs {
            let expected = format!("0 to {epochs}, which `search.epochs` is");
            return Err(value("search.bilevel_epochs", bilevel_epochs, expected));
        }
        if *bilevel_epochs > 0 {
            rules.push((bilevel_strategy, bilevel));
        }
        if rules.iter().any(|(_, rule)| rule.unrolled) && self.mixture == MixtureKind::Gumbel {
            let problem = "a second-order strategy needs the same mixture in all passes of a step, and \
                           `search.mixture` gumbel draws one for each. help: use milenas or darts-1st";
            return Err(broken("values", problem));
        }
        let at = |name, lambda| rule(name, lambda, *compat).ok();
        let weighs = |name| at(name, 0.0) != at(name, 1.0);
        if *lambda != 1.0 && !rules.iter().any(|(name, _)| weighs(name)) {
            let problem = format!(
                "`search.lambda` is {lambda}, and {strategy} does not weigh two losses: it is for milenas and milenas-2nd. \
                 help: leave it at 1"
            );
            return Err(broken("values", problem));
        }
        Ok(())
    }

    /// Checks that a strategy that evaluates whole architectures has no settings for gradient-based strategies.
    fn check_black_box(&self) -> Result<()> {
        let used = [
            ("search.lambda", self.lambda != 1.0, "1"),
            ("search.mixture", self.mixture != MixtureKind::Softmax, "softmax"),
            ("search.bilevel_epochs", self.bilevel_epochs > 0, "0"),
            ("search.compat", self.compat != Compat::None, "none"),
            ("search.partial_channels", self.partial_channels > 1, "1"),
            ("search.stop.at_size", !self.stop.at_size.is_empty(), "\"\""),
        ];
        let Some((key, _, idle)) = used.into_iter().find(|(_, set, _)| *set) else { return Ok(()) };
        let problem = format!(
            "`{key}` has no effect on {}, which evaluates whole architectures: it is for {}. help: leave it at {idle}",
            self.strategy,
            Rule::names().join(", ")
        );
        Err(broken("values", problem))
    }

    fn check_stop(&self) -> Result<()> {
        let stop = &self.stop;
        stop.size().map_err(|e| broken("values", format!("`search.stop.at_size` is {e}")))?;
        let budget =
            stop.budget().map_err(|e| broken("values", format!("`search.stop.time_budget` is {e}")))?;
        match budget {
            Some(Duration::ZERO) => {
                let expected = "a time above 0 such as 2h; leave it empty for no limit";
                Err(value("search.stop.time_budget", &stop.time_budget, expected))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the gradient rule of a name.
///
/// # Errors
/// Names the known strategies near an unknown name, of all kinds.
fn rule(name: &str, lambda: f64, compat: Compat) -> milenas_models::Result<Rule> {
    Rule::named(name, lambda, compat).map_err(|_| {
        let black_box = STRATEGIES.map(|(name, _)| name);
        milenas_models::Error::unknown("strategy", name, Rule::names().into_iter().chain(black_box))
    })
}

/// Checks that `channels` can be divided into `parts` equal parts.
///
/// # Errors
/// Fails if `parts` does not divide `channels`, and lists the divisors.
pub fn check_parts(channels: usize, parts: usize) -> Result<()> {
    if parts > 0 && channels.is_multiple_of(parts) {
        return Ok(());
    }
    let fit: Vec<_> = (1..=channels).filter(|k| channels.is_multiple_of(*k)).map(|k| k.to_string()).collect();
    let problem = format!(
        "`search.partial_channels` is {parts}, expected a divisor of {channels} channels: {}",
        fit.join(", ")
    );
    Err(broken("values", problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sets: &str) -> String {
        let sets: Vec<String> = sets.split(' ').map(String::from).collect();
        Config::resolve("smoke", None, &sets).unwrap_err().to_string()
    }

    #[test]
    fn optimiser_values_out_of_range_are_refused() {
        for group in ["search.weights", "train.weights"] {
            for (key, wrong, expected) in [
                ("lr", "0.0", "is 0, expected a finite number above 0"),
                ("lr", "nan", "is NaN, expected a finite number above 0"),
                ("lr", "inf", "is inf, expected a finite number above 0"),
                ("lr_min", "0.06", "is 0.06, expected 0 to 0.05, which `"),
                ("lr_min", "-0.1", "is -0.1, expected 0 to 0.05, which `"),
                ("momentum", "1.0", "is 1, expected at least 0 and less than 1"),
                ("decay", "-1", "is -1, expected a finite number of 0 or more"),
                ("clip", "-5", "is -5, expected a finite number of 0 or more"),
                ("clip", "inf", "is inf, expected a finite number of 0 or more"),
            ] {
                let message = refused(&format!("{group}.{key}={wrong}"));
                assert!(message.contains(&format!("`{group}.{key}` {expected}")), "{message}");
            }
        }
        for (set, expected) in [
            ("search.alphas.lr=0.0", "`search.alphas.lr` is 0, expected a finite number above 0"),
            ("search.alphas.beta1=1.0", "`search.alphas.beta1` is 1, expected at least 0 and less than 1"),
            ("search.alphas.beta2=-0.1", "`search.alphas.beta2` is -0.1, expected at least 0"),
            ("search.alphas.decay=nan", "`search.alphas.decay` is NaN, expected a finite number of 0"),
            ("search.lambda=inf", "`search.lambda` is inf, expected a finite number of 0"),
        ] {
            let message = refused(set);
            assert!(message.contains(expected), "{set}: {message}");
        }
        let off = ["search.weights.clip=0", "search.weights.momentum=0", "search.weights.lr_min=0.05"];
        Config::resolve("smoke", None, &off.map(String::from)).unwrap();
    }

    #[test]
    fn settings_without_effect_are_refused() {
        for (sets, expected) in [
            (
                "search.bilevel_strategy=naswot",
                "`search.bilevel_strategy` is naswot, expected a gradient-based strategy: milenas,",
            ),
            (
                "search.bilevel_epochs=9",
                "`search.bilevel_epochs` is 9, expected 0 to 8, which `search.epochs` is",
            ),
            (
                "search.strategy=darts-1st search.lambda=2",
                "`search.lambda` is 2, and darts-1st does not weigh",
            ),
            ("search.strategy=single-level search.lambda=0", "it is for milenas and milenas-2nd"),
            ("search.stop.time_budget=0s", "`search.stop.time_budget` is 0s, expected a time above 0"),
            ("search.strategy=naswot search.lambda=2", "`search.lambda` has no effect on naswot"),
            ("search.strategy=area search.mixture=gumbel", "`search.mixture` has no effect on area"),
            (
                "search.strategy=random search.bilevel_epochs=1",
                "`search.bilevel_epochs` has no effect on random",
            ),
            ("search.strategy=random search.compat=released", "help: leave it at none"),
            ("search.strategy=random search.partial_channels=2", "it is for milenas, milenas-2nd,"),
            ("search.strategy=evolution search.stop.at_size=n=6,r=0", "`search.stop.at_size` has no effect"),
        ] {
            let message = refused(sets);
            assert!(message.contains(expected), "{sets}: {message}");
        }
        // A setting is accepted if one of the run's rules uses it.
        let sets = [
            "search.strategy=darts-1st",
            "search.bilevel_strategy=milenas",
            "search.bilevel_epochs=8",
            "search.lambda=2",
        ];
        Config::resolve("smoke", None, &sets.map(String::from)).unwrap();
    }
}
