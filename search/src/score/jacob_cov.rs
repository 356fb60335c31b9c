//! Correlation of the images' Jacobians (first version of NASWOT): `-sum of ln(v + k) + 1 / (v + k)` over the eigenvalues
//! `v` of their correlation matrix. The mean of two initialisations is less noisy than one.

use milenas_models::{Rng, Weights, assemble};
use nalgebra::DMatrix;

use super::{Score, Subject, compiled};
use crate::Result;

/// Constant added to eigenvalues, as in the authors' code.
const SMALL: f64 = 1e-5;

/// Number of initialisations that are averaged.
const REPETITIONS: u64 = 2;

/// The score `jacob_cov`.
#[derive(Debug)]
pub struct JacobCov;

impl Score for JacobCov {
    fn name(&self) -> &'static str {
        "jacob_cov"
    }

    fn doc(&self) -> &'static str {
        "low correlation between the gradients with respect to the images of a batch, mean of two initialisations (first version of NASWOT)"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        // Operations that do not reach the output have no effect on the gradients.
        let graph = assemble(&subject.genotype.live(), subject.config)?;
        let (images, mut network) = (subject.batch.numbers(), compiled(&graph)?);
        network.tensors_mut().load(subject.weights)?;
        let mut sum = 0.0;
        for repetition in 0..REPETITIONS {
            if repetition > 0 {
                let seed = Rng::new(subject.seed, &format!("jacob_cov/{repetition}")).word();
                network.tensors_mut().load(&Weights::init(&graph, seed.into())?)?;
            }
            sum += decorrelation(&network.jacobian(&images)?, subject.batch.len());
        }
        Ok(sum / REPETITIONS as f64)
    }
}

/// Returns the score of a Jacobian `[images, pixels]`; minus infinity if an image has no gradient.
fn decorrelation(rows: &[f32], images: usize) -> f64 {
    let mut jacobian = DMatrix::from_row_slice(images, rows.len() / images, rows).map(f64::from);
    for mut row in jacobian.row_iter_mut() {
        let mean = row.mean();
        row.add_scalar_mut(-mean);
        let norm = row.norm();
        if norm == 0.0 {
            return f64::NEG_INFINITY;
        }
        row /= norm;
    }
    let eigenvalues = (&jacobian * jacobian.transpose()).symmetric_eigenvalues();
    -eigenvalues.iter().map(|v| (v.max(0.0) + SMALL).ln() + 1.0 / (v.max(0.0) + SMALL)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(eigenvalues: &[f64]) -> f64 {
        -eigenvalues.iter().map(|v| (v + SMALL).ln() + 1.0 / (v + SMALL)).sum::<f64>()
    }

    /// Rows with a known correlation have known eigenvalues.
    #[test]
    fn jacobians_with_known_eigenvalues() {
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
        // Uncorrelated rows: the identity. Offsets and factors of rows do not count.
        close(decorrelation(&[1.0, -1.0, 0.0, 0.0, 5.0, 5.0, 8.0, 2.0], 2), score(&[1.0, 1.0]));
        // Correlation 1/2: (2, -1, -1) and (1, 1, -2).
        close(decorrelation(&[2.0, -1.0, -1.0, 1.0, 1.0, -2.0], 2), score(&[1.5, 0.5]));
        // Equal rows.
        close(decorrelation(&[1.0, 2.0, 4.0, 2.0, 4.0, 8.0], 2), score(&[2.0, 0.0]));
        assert_eq!(decorrelation(&[1.0, 1.0, 2.0, 4.0], 2), f64::NEG_INFINITY);
    }
}
