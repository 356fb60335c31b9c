//! Limits of the chosen network, as a network for evaluation. A gradient-based search chooses the largest architecture
//! within them; a black-box strategy evaluates only architectures within them.
//!
//! A limit is one file with an implementation of [`Limit`], and one row of the table below. The settings of
//! `search.stop`, their options, the checks and their messages come from the table.

use std::fmt;

use milenas_models::{Genotype, Graph, NetworkConfig, assemble};

use crate::Result;

/// Limit of a quantity of a network.
pub trait Limit: fmt::Debug + Sync {
    /// Returns the unit with the name of the quantity, in the plural.
    fn unit(&self) -> &'static str;

    /// Returns the quantity of a derived network.
    fn measure(&self, network: &Graph) -> u64;
}

/// Row of the table.
#[derive(Clone, Copy, Debug)]
pub struct LimitEntry {
    /// Key of the setting in `search.stop`.
    pub key: &'static str,
    /// The limit.
    pub limit: &'static dyn Limit,
}

/// Table of limits, passed to a macro: description and key of the setting, its option, file and type. Among
/// architectures within the limits, the largest by the first limited quantity is chosen; later rows decide ties.
macro_rules! limit_table {
    ($then:ident) => {
        $then! {
            /// Maximum size in bytes of the float32 weights of the chosen network, statistics of BatchNorm included; 0
            /// for no limit. The header of the file, with the names of the weights, is not counted.
            max_bytes, "max-bytes": bytes::BytesLimit;
            /// Maximum number of parameters of the chosen network, which has `train.channels` and `train.layers`; 0 for no
            /// limit. The largest genotype within it is chosen. Strategies that evaluate whole architectures evaluate
            /// only those within the limit.
            max_params, "max-params": params::ParamsLimit;
            /// Maximum number of multiply-accumulates per image of the chosen network; 0 for no limit.
            max_macs, "max-macs": macs::MacsLimit;
        }
    };
}
pub(crate) use limit_table;

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $key:ident, $option:literal: $file:ident::$limit:ident;)+) => {
        $(mod $file; pub use $file::$limit;)+

        /// All limits, in the order of help and settings.
        pub static LIMITS: &[LimitEntry] =
            &[$(LimitEntry { key: stringify!($key), limit: &$limit }),+];
    };
}
limit_table!(limits);

/// Maximum of each quantity, in the order of [`LIMITS`]; 0 for no limit. Quantities of a network have the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkLimits(pub Vec<u64>);

impl NetworkLimits {
    /// Returns whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.limited().next().is_none()
    }

    /// Returns the quantities of an architecture.
    ///
    /// # Errors
    /// Fails for an architecture that does not fit the network.
    pub fn measure(&self, genotype: &Genotype, network: &NetworkConfig) -> Result<Vec<u64>> {
        let graph = assemble(genotype, network)?;
        Ok(LIMITS.iter().map(|entry| entry.limit.measure(&graph)).collect())
    }

    /// Returns whether quantities are within the limits.
    pub fn hold(&self, found: &[u64]) -> bool {
        self.limited().all(|i| found[i] <= self.0[i])
    }

    /// Returns the part of the quantities that orders architectures by size: from the first limited one on.
    pub fn rank<'a>(&self, found: &'a [u64]) -> &'a [u64] {
        &found[self.limited().next().unwrap_or_default()..]
    }

    /// Formats the limited ones of some quantities, with their units.
    pub fn format(&self, found: &[u64]) -> String {
        joined(self.limited().map(|i| format!("{} {}", found[i], LIMITS[i].limit.unit())), "and")
    }

    /// Returns the keys of the limited quantities, for messages.
    pub fn keys(&self) -> String {
        joined(self.limited().map(|i| LIMITS[i].key.to_string()), "or")
    }

    /// Returns the indices of the limited quantities.
    fn limited(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter(|(_, most)| **most > 0).map(|(i, _)| i)
    }
}

impl fmt::Display for NetworkLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(&self.0))
    }
}

fn joined(parts: impl Iterator<Item = String>, word: &str) -> String {
    parts.collect::<Vec<_>>().join(&format!(" {word} "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn network() -> NetworkConfig {
        let (channels, layers, classes, in_channels) = (4, 3, 10, 3);
        NetworkConfig {
            channels,
            layers,
            classes,
            in_channels,
            height: 16,
            width: 16,
            skeleton: Default::default(),
        }
    }

    #[test]
    fn every_limit_has_a_setting_a_unit_and_a_measure() {
        let settings = Config::default().settings();
        let free = Config::default().search.stop.limits();
        assert!(free.is_empty() && free.0.len() == LIMITS.len());
        let found = free.measure(&Genotype::named("DARTS_V2").unwrap(), &network()).unwrap();
        for (i, LimitEntry { key, limit }) in LIMITS.iter().enumerate() {
            let setting =
                settings.iter().find(|setting| setting.key == format!("search.stop.{key}")).unwrap();
            assert_eq!(setting.declared.option, Some(key.replace('_', "-").as_str()));
            assert!(found[i] > 0, "{key}");
            let set = [format!("search.stop.{key}={}", found[i])];
            let limits = Config::resolve("smoke", None, &set).unwrap().search.stop.limits();
            assert_eq!(limits.to_string(), format!("{} {}", found[i], limit.unit()));
            assert_eq!(limits.keys(), *key);
            let mut more = found.clone();
            more[i] += 1;
            assert!(limits.hold(&found) && !limits.hold(&more), "{key}");
        }
    }
}
