//! Statistics over several runs.

use serde::Serialize;

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
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn a_sample_has_its_mean_and_deviation() {
        let found = Spread::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((found.count, found.mean), (8, 5.0));
        assert!((found.deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(&[3.0]), Spread { count: 1, mean: 3.0, deviation: 0.0 });
    }
}
