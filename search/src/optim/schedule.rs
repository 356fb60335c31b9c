//! Learning rate schedules over the epochs.

/// Returns `min + (start - min) (1 + cos(pi epoch / epochs)) / 2`: SGDR without restarts, one step per epoch.
pub fn cosine(start: f64, min: f64, epoch: usize, epochs: usize) -> f64 {
    let turn = std::f64::consts::PI * epoch as f64 / epochs.max(1) as f64;
    min + (start - min) * (1.0 + turn.cos()) / 2.0
}

/// Returns `start * factor^epoch`.
pub fn exponential(start: f64, factor: f64, epoch: usize) -> f64 {
    start * factor.powi(i32::try_from(epoch).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_by_a_factor() {
        assert_eq!(exponential(0.1, 0.97, 0), 0.1);
        assert!((exponential(0.1, 0.97, 250) - 4.93e-5).abs() < 1e-7);
    }

    #[test]
    fn runs_from_start_to_min() {
        assert_eq!(cosine(0.025, 0.001, 0, 50), 0.025);
        assert!((cosine(0.025, 0.001, 25, 50) - 0.013).abs() < 1e-12);
        assert!((cosine(0.025, 0.001, 50, 50) - 0.001).abs() < 1e-12);
    }
}
