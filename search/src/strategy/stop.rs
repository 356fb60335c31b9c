//! Conditions under which a search ends before its last epoch.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sizes::ModelSize;
use crate::config::settings::settings;
use crate::limit::{NetworkLimits, limit_table};

/// Comparison of a size with the expected size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopRule {
    /// `n <= N` and `r <= R`. A search that skips the expected size stops too.
    AtMost,
    /// `n == N` and `r == R`, as the released code.
    Exactly,
}

/// Declares the settings, with a key for each row of the table of limits.
macro_rules! stop_config {
    ($($(#[doc = $doc:literal])+ $key:ident, $option:literal: $file:ident::$limit:ident;)+) => {
        settings! {
            /// Conditions for an early end, and limits for the choice at the end. Empty texts and zeros disable a
            /// condition.
            pub struct StopConfig {
                /// Stop when the derived normal cell has at most N convolutions and the reduction cell at most R: `n=N,r=R`,
                /// e.g. `n=6,r=0` (MiLeNAS, algorithm 1). Empty for no such stop.
                at_size: String = "", option "stop-at-size";
                /// Comparison of the derived cells with the size `search.stop.at_size`.
                rule: StopRule = StopRule::AtMost, in Range::one_of([
                    ("at-most", "a search that skips the size stops too"),
                    ("exactly", "as the released code"),
                ]), option "stop-rule";
                /// Stop after the step that exceeds this time, e.g. `2h` or `90m`; the times of resumed runs are added. Empty
                /// for no limit.
                time_budget: String = "", option "time-budget", resume Resume::AnyValue;
                $(
                    $(#[doc = $doc])+
                    $key: u64 = 0u64, option $option, resume Resume::Choice;
                )+
            }
        }

        impl StopConfig {
            /// Returns the limits of the chosen network.
            pub fn limits(&self) -> NetworkLimits {
                NetworkLimits(vec![$(self.$key),+])
            }
        }
    };
}
limit_table!(stop_config);

impl StopConfig {
    /// Returns the expected size, or `None` without one.
    ///
    /// # Errors
    /// Returns a description of the error, to be printed after the name of the key.
    pub fn size(&self) -> std::result::Result<Option<ModelSize>, String> {
        (!self.at_size.is_empty()).then(|| self.at_size.parse()).transpose()
    }

    /// Returns the time budget, or `None` without one.
    ///
    /// # Errors
    /// Returns a description of the error, to be printed after the name of the key.
    pub fn budget(&self) -> std::result::Result<Option<Duration>, String> {
        let parse = || {
            humantime::parse_duration(&self.time_budget).map_err(|e| {
                format!("`{}`: {e}; expected a time such as 2h, 90m or 1h 30m", self.time_budget)
            })
        };
        (!self.time_budget.is_empty()).then(parse).transpose()
    }

    /// Returns whether a search ends when its derived architecture has this size.
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
        StopConfig { at_size, rule, time_budget, ..StopConfig::default() }
    }

    #[test]
    fn a_skipped_size_stops_by_at_most_only() {
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
