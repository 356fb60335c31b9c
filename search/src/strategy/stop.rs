//! When a search ends before its last epoch.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sizes::{CostLimits, ModelSize};

/// How an expected size is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopRule {
    /// `n <= N` and `r <= R`: a size that the search jumps over stops it too.
    AtMost,
    /// `n == N` and `r == R`, as the released code has it.
    Exactly,
}

/// When to stop, and what to choose at the end. Empty texts and zeros are no condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopConfig {
    /// The expected size `n=N,r=R` (MiLeNAS, algorithm 1; its example is `n=6,r=0`).
    pub at_size: String,
    /// How that is met.
    pub rule: StopRule,
    /// Time that all runs of the search may take together, e.g. `2h` or `90m`. The search ends after the step in which
    /// it is over, and can go on later with more.
    pub time_budget: String,
    /// The most parameters of the chosen network.
    pub max_params: u64,
    /// Its most multiply-accumulates an image.
    pub max_macs: u64,
}

impl StopConfig {
    /// The expected size.
    ///
    /// # Errors
    /// What is wrong with the text, to follow the key's name.
    pub fn size(&self) -> std::result::Result<Option<ModelSize>, String> {
        (!self.at_size.is_empty()).then(|| self.at_size.parse()).transpose()
    }

    /// The time that the search may take.
    ///
    /// # Errors
    /// What is wrong with the text, to follow the key's name.
    pub fn budget(&self) -> std::result::Result<Option<Duration>, String> {
        let parse = || {
            humantime::parse_duration(&self.time_budget).map_err(|e| {
                format!("`{}`: {e}; expected a time such as 2h, 90m or 1h 30m", self.time_budget)
            })
        };
        (!self.time_budget.is_empty()).then(parse).transpose()
    }

    /// Limits of the chosen network.
    pub fn limits(&self) -> CostLimits {
        CostLimits { params: self.max_params, macs: self.max_macs }
    }

    /// Whether a search whose derived architecture has this size is to end.
    pub fn met(&self, found: ModelSize) -> bool {
        let Ok(Some(ModelSize { n, r })) = self.size() else { return false };
        match self.rule {
            StopRule::AtMost => found.n <= n && found.r <= r,
            StopRule::Exactly => found.n == n && found.r == r,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(at_size: &str, rule: StopRule, time_budget: &str) -> StopConfig {
        let [at_size, time_budget] = [at_size, time_budget].map(String::from);
        StopConfig { at_size, rule, time_budget, max_params: 0, max_macs: 0 }
    }

    #[test]
    fn a_size_jumped_over_stops_by_the_one_rule_only() {
        let path = [(8, 3), (7, 0), (5, 0), (6, 0)].map(|(n, r)| ModelSize { n, r });
        let met = |rule| path.map(|size| stop("n=6,r=0", rule, "").met(size));
        assert_eq!(met(StopRule::AtMost), [false, false, true, true]);
        assert_eq!(met(StopRule::Exactly), [false, false, false, true]);
        assert!(!stop("", StopRule::AtMost, "").met(ModelSize { n: 0, r: 0 }));
    }

    #[test]
    fn times_are_read() {
        let budget = |text: &str| stop("", StopRule::AtMost, text).budget();
        assert_eq!(budget("2h"), Ok(Some(Duration::from_secs(7200))));
        assert_eq!(budget("1h 30m"), Ok(Some(Duration::from_secs(5400))));
        assert_eq!(budget(""), Ok(None));
        assert!(budget("two hours").unwrap_err().contains("expected a time such as 2h"));
    }
}
