//! Aggregates of scores: architectures in the order of their ranks by several scores.

use super::{SCORES, Score, aggregate, named};

/// Names of aggregates, and the scores that they combine.
const NAMED: &[(&str, &str)] =
    &[("aggregate", Aggregate::DEFAULT), ("az_nas", "az_expressivity+az_progressivity+az_trainability+macs")];

/// Aggregate of scores, as in `jacob_cov+live_macs`: the sum of `ln(rank / count)` over the scores (Lee and Ham,
/// CVPR 2024). It orders the architectures of a population, and has no meaning outside it.
#[derive(Clone, Debug)]
pub struct Aggregate {
    name: String,
    scores: Vec<&'static dyn Score>,
}

impl Aggregate {
    /// Aggregate to use where the user names none. Of the aggregates in docs/nasbench201.md it has the highest rank
    /// correlation with test accuracy.
    pub const DEFAULT: &str = "jacob_cov+live_macs";

    /// Parses the name of an aggregate, or names of scores with `+` between them.
    ///
    /// # Errors
    /// [`Error::Unknown`](milenas_models::Error::Unknown) for an unknown name, and
    /// [`Error::Value`](milenas_models::Error::Value) for a score that is named twice.
    pub fn parse(text: &str) -> milenas_models::Result<Aggregate> {
        let known = NAMED.iter().find(|(name, _)| *name == text);
        let parts: Vec<&str> = known.map_or(text, |(_, scores)| scores).split('+').collect();
        if let Some(i) = (1..parts.len()).find(|&i| parts[..i].contains(&parts[i])) {
            let (found, expected) = (format!("{} twice", parts[i]), "each score once".into());
            return Err(milenas_models::Error::Value { what: format!("aggregate {text}"), found, expected });
        }
        let score = |part: &&str| match (named(part), &parts[..]) {
            (Err(_), [only]) => {
                let names = SCORES.iter().map(|score| score.name());
                let names = names.chain(NAMED.iter().map(|(name, _)| *name));
                Err(milenas_models::Error::unknown("score or aggregate", *only, names))
            }
            (found, _) => found,
        };
        let scores = parts.iter().map(score).collect::<milenas_models::Result<_>>()?;
        Ok(Aggregate { name: text.into(), scores })
    }

    /// Returns the name, as the user wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the scores that it combines.
    pub fn scores(&self) -> &[&'static dyn Score] {
        &self.scores
    }

    /// Returns the aggregate of each architecture of a population; a larger value is better. `column` returns the
    /// values of a score, one per architecture.
    pub fn values(&self, column: impl FnMut(&dyn Score) -> Vec<f64>) -> Vec<f64> {
        aggregate(&self.scores.iter().copied().map(column).collect::<Vec<_>>())
    }

    /// Returns the names of aggregates, and the scores that they combine.
    pub fn named() -> impl Iterator<Item = (&'static str, &'static str)> {
        NAMED.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregate_orders_a_population_by_all_its_scores() {
        let found = Aggregate::parse("naswot+live_macs").unwrap();
        let columns = [("naswot", [1.0, 2.0, 2.0, 4.0]), ("live_macs", [9.0, 8.0, 7.0, 9.0])];
        let column =
            |score: &dyn Score| columns.iter().find(|(name, _)| *name == score.name()).unwrap().1.to_vec();
        // Ranks 1, 2.5, 2.5, 4 and 3.5, 2, 1, 3.5 of 4.
        let expected = [1.0 * 3.5, 2.5 * 2.0, 2.5 * 1.0, 4.0 * 3.5].map(|product: f64| (product / 16.0).ln());
        for (found, expected) in found.values(column).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
        }
    }

    #[test]
    fn names_are_parsed_or_refused_with_a_hint() {
        for (name, scores) in Aggregate::named() {
            let [by_name, by_scores] = [name, scores].map(|text| Aggregate::parse(text).unwrap());
            let names = |a: &Aggregate| a.scores().iter().map(|s| s.name()).collect::<Vec<_>>();
            assert_eq!(names(&by_name), names(&by_scores));
            assert_eq!(by_name.name(), name);
            assert!(named(name).is_err(), "{name} is a score as well");
        }
        let message = |text: &str| Aggregate::parse(text).unwrap_err().to_string();
        assert!(
            message("naswot+live_mac").contains("did you mean `live_macs`"),
            "{}",
            message("naswot+live_mac")
        );
        assert!(message("aggregat").contains("did you mean `aggregate`"), "{}", message("aggregat"));
        assert!(message("naswot+naswot").contains("naswot twice"), "{}", message("naswot+naswot"));
        assert!(message("naswot+").contains("expected one of"), "{}", message("naswot+"));
    }
}
