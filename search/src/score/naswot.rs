//! NASWOT (Mellor et al., ICML 2021, section 3.2): `ln |K|` of the kernel `K[i, j] = units - differing[i, j]`.

use milenas_models::fused::Codes;
use nalgebra::DMatrix;

use super::{Score, Subject};
use crate::Result;

/// The score `naswot`.
#[derive(Debug)]
pub struct Naswot;

impl Score for Naswot {
    fn name(&self) -> &'static str {
        "naswot"
    }

    fn doc(&self) -> &'static str {
        "log-determinant of the kernel of a batch's ReLU activation codes (Mellor et al., ICML 2021)"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        let mut network = subject.network()?;
        Ok(log_determinant(&network.codes(&subject.batch.numbers(), subject.buffers)?))
    }
}

/// Returns the log-determinant of the kernel; minus infinity if it is singular, as for two equal codes.
pub fn log_determinant(codes: &Codes) -> f64 {
    let n = codes.differing.len().isqrt();
    let kernel = DMatrix::from_fn(n, n, |i, j| (codes.units - codes.differing[i * n + j]) as f64);
    match kernel.cholesky() {
        // A diagonal element that only rounding keeps from zero carries no information.
        Some(factor) if smallest(factor.l_dirty()) > f64::EPSILON * codes.units as f64 => {
            factor.l_dirty().diagonal().iter().map(|x| 2.0 * x.ln()).sum()
        }
        _ => f64::NEG_INFINITY,
    }
}

/// Returns the smallest squared element of the diagonal.
fn smallest(factor: &DMatrix<f64>) -> f64 {
    factor.diagonal().iter().fold(f64::INFINITY, |least, x| least.min(x * x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use milenas_models::Rng;

    fn codes(bits: &[Vec<bool>]) -> Codes {
        let differ = |a: &Vec<bool>, b: &Vec<bool>| a.iter().zip(b).filter(|(a, b)| a != b).count() as u64;
        let differing = bits.iter().flat_map(|a| bits.iter().map(move |b| differ(a, b))).collect();
        Codes { units: bits[0].len() as u64, differing }
    }

    #[test]
    fn two_codes_have_the_closed_form() {
        let bits = [vec![true; 10], [vec![true; 7], vec![false; 3]].concat()];
        let expected = (100f64 - 49.0).ln();
        assert!((log_determinant(&codes(&bits)) - expected).abs() < 1e-12);
    }

    #[test]
    fn equal_codes_are_singular() {
        let mut rng = Rng::new(0, "bits");
        let mut bits: Vec<Vec<bool>> = (0..8).map(|_| (0..64).map(|_| rng.below(2) == 1).collect()).collect();
        assert!(log_determinant(&codes(&bits)).is_finite());
        bits[5] = bits[2].clone();
        assert_eq!(log_determinant(&codes(&bits)), f64::NEG_INFINITY);
    }

    /// Hadamard's bound is reached by codes without correlation: their kernel is a multiple of the identity.
    #[test]
    fn it_is_bounded_by_the_units() {
        let mut rng = Rng::new(1, "bits");
        for units in [16, 100, 1000] {
            let bits: Vec<Vec<bool>> =
                (0..12).map(|_| (0..units).map(|_| rng.below(2) == 1).collect()).collect();
            assert!(log_determinant(&codes(&bits)) <= 12.0 * f64::from(units).ln());
        }
        let apart = Codes { units: 9, differing: (0..16).map(|i| if i % 5 == 0 { 0 } else { 9 }).collect() };
        assert!((log_determinant(&apart) - 4.0 * 9f64.ln()).abs() < 1e-12);
    }
}
