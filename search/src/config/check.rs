//! Checks of configuration values and of their combinations.

use std::time::Duration;

use milenas_models::input::LARGEST;

use super::settings::{Setting, at_most, out_of_range};
use super::{Config, DataConfig, SearchConfig, broken};
use crate::Result;
use crate::optim::SgdConfig;
use crate::relaxation::Entry;
use crate::strategy::black_box;
use crate::strategy::{Compat, Derivation, Rule};

impl Config {
    /// Checks all values.
    ///
    /// # Errors
    /// Names the first invalid value by its key, with the values that are allowed.
    pub(super) fn check(&self) -> Result<()> {
        let Config { data, search, train, .. } = self;
        self.settings().iter().try_for_each(Setting::check)?;
        data.check()?;
        search.check_rules()?;
        search.check_stop()?;
        check_parts(search.channels, search.partial_channels)?;
        let space = search.space()?;
        if search.partial_channels > 1 && !space.has_partial_channels() {
            let problem = format!(
                "`search.partial_channels` above 1 is for the darts spaces. help: leave it at 1 for {}",
                space.name()
            );
            return Err(broken("values", problem));
        }
        for Entry { name, relaxation, .. } in search.relaxation.all() {
            relaxation.check(&format!("search.relaxation.{name}"))?;
        }
        for (group, SgdConfig { lr, lr_min, .. }) in
            [("search.weights", &search.weights), ("train.weights", &train.weights)]
        {
            at_most([&format!("{group}.lr_min"), &format!("{group}.lr")], *lr_min, *lr)?;
        }
        Ok(())
    }
}

impl DataConfig {
    /// Checks the image sizes. A `resize` above twice the size is a mistake: evaluation would see less than a
    /// quarter of the image.
    fn check(&self) -> Result<()> {
        let DataConfig { size, resize, .. } = *self;
        if size > LARGEST {
            return Err(out_of_range("data.size", size, format_args!("0 to {LARGEST}")));
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
        Err(out_of_range("data.resize", resize, expected))
    }
}

impl SearchConfig {
    /// Checks the rules of the epochs: they are known, fit the mixture, and use the settings that are not at
    /// their defaults.
    fn check_rules(&self) -> Result<()> {
        let SearchConfig { strategy, bilevel_strategy, bilevel_epochs, epochs, lambda, compat, .. } = self;
        let space = self.space()?;
        if self.exclude_none && !space.derives_none() {
            let problem = format!(
                "`search.exclude_none` has no effect on the space {}, which never derives none. help: leave it at false",
                space.name()
            );
            return Err(broken("values", problem));
        }
        if self.strategies.named(bilevel_strategy).is_some() {
            let expected = format!("a gradient-based strategy: {}", Rule::names().join(", "));
            return Err(out_of_range("search.bilevel_strategy", bilevel_strategy, expected));
        }
        let bilevel = rule(bilevel_strategy, *lambda, *compat)?;
        if self.black_box().is_some() {
            return self.check_black_box();
        }
        let mut rules = vec![(strategy, rule(strategy, *lambda, *compat)?)];
        if bilevel_epochs > epochs {
            let expected = format!("0 to {epochs}, which `search.epochs` is");
            return Err(out_of_range("search.bilevel_epochs", bilevel_epochs, expected));
        }
        self.check_stages()?;
        // Under limits the largest architecture of all epochs is chosen, most of which the mixture derives.
        if self.derive == Derivation::Pt && !self.stop.limits().is_empty() {
            let problem = "a derivation by perturbation has one result, and limits choose among those of all epochs. help: use \
                           search.derive=mixture, or no limits";
            return Err(broken("values", problem));
        }
        if self.warmup_epochs >= *epochs {
            let expected = format!("0 to {}, fewer than `search.epochs`", epochs - 1);
            return Err(out_of_range("search.warmup_epochs", self.warmup_epochs, expected));
        }
        if *bilevel_epochs > 0 {
            rules.push((bilevel_strategy, bilevel));
        }
        if rules.iter().any(|(_, rule)| rule.unrolled) && !self.relaxation()?.is_softmax() {
            let problem = format!(
                "a second-order strategy needs the same mixture in all passes of a step, and `search.mixture` {} samples \
                 one for each. help: use milenas or darts-1st",
                self.mixture
            );
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

    /// Checks that later stages follow each other, and that each has fewer candidates or more channels.
    fn check_stages(&self) -> Result<()> {
        let mut before = self.stage(0);
        for stage in self.later_stages()? {
            check_parts(self.channels, stage.partial)?;
            let progress = stage.keep > 0 && stage.keep <= before.keep && stage.partial <= before.partial;
            if !progress || stage.epoch <= before.epoch || stage.epoch >= self.epochs {
                let expected = format!(
                    "stages at rising epochs below {}, which `search.epochs` is, with candidates and divisors that do not rise",
                    self.epochs
                );
                return Err(out_of_range("search.stages", &self.stages, expected));
            }
            before = stage;
        }
        Ok(())
    }

    /// Checks that a strategy that evaluates whole architectures has no settings for gradient-based strategies.
    fn check_black_box(&self) -> Result<()> {
        let used = [
            ("search.lambda", self.lambda != 1.0, "1"),
            ("search.mixture", self.mixture != "softmax", "softmax"),
            ("search.bilevel_epochs", self.bilevel_epochs > 0, "0"),
            ("search.warmup_epochs", self.warmup_epochs > 0, "0"),
            ("search.stages", !self.stages.is_empty(), "\"\""),
            ("search.exclude_none", self.exclude_none, "false"),
            ("search.derive", self.derive != Derivation::Mixture, "mixture"),
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
                Err(out_of_range("search.stop.time_budget", &stop.time_budget, expected))
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
        let black_box = black_box::choices().into_iter().map(|(name, _)| name);
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
                ("lr_min", "-0.1", "is -0.1, expected a finite number of 0 or more"),
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
            ("search.warmup_epochs=8", "`search.warmup_epochs` is 8, expected 0 to 7"),
            (
                "search.strategy=random search.warmup_epochs=1",
                "`search.warmup_epochs` has no effect on random",
            ),
            ("search.derive=pt search.stop.max_params=9", "limits choose among those of all epochs"),
            ("search.stages=2:3", "`2:3`, expected EPOCH:KEEP:PARTIAL"),
            ("search.stages=2:3:1,2:2:1", "stages at rising epochs below 8"),
            ("search.stages=8:3:1", "stages at rising epochs below 8"),
            ("search.stages=2:3:2", "candidates and divisors that do not rise"),
            ("search.partial_channels=4 search.stages=2:3:3", "expected a divisor of 16 channels"),
            ("search.exclude_none=true", "no effect on the space darts, which never derives none"),
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
