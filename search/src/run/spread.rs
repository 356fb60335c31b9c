//! Statistics over several runs: means with their errors, and differences with their significance.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Probability below which two samples count as different.
pub const SIGNIFICANT: f64 = 0.05;

/// Mean and standard deviation of a sample (divided by the count minus 1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Number of values.
    pub count: usize,
    /// Mean of the values.
    pub mean: f64,
    /// Standard deviation; 0 for a single value.
    pub deviation: f64,
}

impl Spread {
    /// Computes the statistics of `values`.
    pub fn of(values: &[f64]) -> Spread {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count.max(1) as f64;
        let squares = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        Spread { count, mean, deviation: (squares / count.saturating_sub(1).max(1) as f64).sqrt() }
    }

    /// Returns the standard error of the mean, or `None` for a single value.
    pub fn error(&self) -> Option<f64> {
        (self.count > 1).then(|| self.deviation / (self.count as f64).sqrt())
    }
}

/// Difference of two means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Mean of the first sample minus that of the second.
    pub mean: f64,
    /// Standard error of the difference.
    pub error: f64,
    /// Probability of a difference at least this large, of either sign, between equal means.
    pub p: f64,
}

impl Difference {
    /// Compares values of equal seeds by a paired t-test; `None` for fewer than two pairs, and for other lengths.
    pub fn paired(a: &[f64], b: &[f64]) -> Option<Difference> {
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let spread = Spread::of(&differences);
        let error = spread.error().filter(|_| a.len() == b.len())?;
        Difference::new(spread.mean, error, spread.count as f64 - 1.0)
    }

    /// Compares independent samples by Welch's t-test; `None` if one has fewer than two values.
    pub fn independent(a: &[f64], b: &[f64]) -> Option<Difference> {
        let [a, b] = [Spread::of(a), Spread::of(b)];
        let [of_a, of_b] = [a.error()?.powi(2), b.error()?.powi(2)];
        let square = of_a + of_b;
        let freedom =
            square * square / (of_a * of_a / (a.count - 1) as f64 + of_b * of_b / (b.count - 1) as f64);
        Difference::new(a.mean - b.mean, square.sqrt(), freedom)
    }

    fn new(mean: f64, error: f64, freedom: f64) -> Option<Difference> {
        if error == 0.0 {
            return Some(Difference { mean, error, p: if mean == 0.0 { 1.0 } else { 0.0 } });
        }
        let distribution = StudentsT::new(0.0, 1.0, freedom).ok()?;
        Some(Difference { mean, error, p: 2.0 * distribution.cdf(-(mean / error).abs()) })
    }

    /// Whether the difference is significant.
    pub fn is_significant(&self) -> bool {
        self.p < SIGNIFICANT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_mean_and_deviation() {
        let found = Spread::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((found.count, found.mean), (8, 5.0));
        assert!((found.deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert!((found.error().unwrap() - (4.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(&[3.0]), Spread { count: 1, mean: 3.0, deviation: 0.0 });
        assert_eq!(Spread::of(&[3.0]).error(), None);
    }

    /// Student's own data: additional hours of sleep by two drugs (Biometrika 6, 1908). The values are those of R's
    /// `t.test` on its data set `sleep`: paired t = 4.0621, p = 0.002833; Welch p = 0.07939, 17.776 degrees of freedom.
    #[test]
    fn tests_agree_with_published_values() {
        let a = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let b = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let paired = Difference::paired(&b, &a).unwrap();
        assert!((paired.mean - 1.58).abs() < 1e-12 && (paired.mean / paired.error - 4.0621).abs() < 1e-4);
        assert!((paired.p - 0.002833).abs() < 1e-6 && paired.is_significant(), "{paired:?}");
        let independent = Difference::independent(&a, &b).unwrap();
        assert!((independent.p - 0.07939).abs() < 1e-5 && !independent.is_significant(), "{independent:?}");
        assert_eq!(Difference::paired(&a[..1], &b[..1]), None);
        assert_eq!(Difference::paired(&a, &b[..3]), None);
        assert_eq!(Difference::independent(&a, &b[..1]), None);
        let same = Difference::paired(&a, &a).unwrap();
        assert_eq!((same.mean, same.p), (0.0, 1.0));
    }
}
