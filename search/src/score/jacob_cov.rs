//! Correlation of the images' Jacobians (first version of NASWOT): `-sum of ln(v + k) + 1 / (v + k)` over the eigenvalues
//! `v` of their correlation matrix.

use nalgebra::DMatrix;

use super::{Score, Subject};
use crate::Result;

/// Constant added to eigenvalues, as in the authors' code.
const SMALL: f64 = 1e-5;

/// The score `jacob_cov`.
#[derive(Debug)]
pub struct JacobCov;

impl Score for JacobCov {
    fn name(&self) -> &'static str {
        "jacob_cov"
    }

    fn doc(&self) -> &'static str {
        "low correlation between the gradients with respect to the images of a batch (first version of NASWOT)"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        let rows = subject.network()?.jacobian(&subject.batch.numbers())?;
        let n = subject.batch.len();
        let mut jacobian = DMatrix::from_row_slice(n, rows.len() / n, &rows).map(f64::from);
        for mut row in jacobian.row_iter_mut() {
            let mean = row.mean();
            row.add_scalar_mut(-mean);
            let norm = row.norm();
            if norm == 0.0 {
                return Ok(f64::NEG_INFINITY);
            }
            row /= norm;
        }
        let eigenvalues = (&jacobian * jacobian.transpose()).symmetric_eigenvalues();
        Ok(-eigenvalues.iter().map(|v| (v.max(0.0) + SMALL).ln() + 1.0 / (v.max(0.0) + SMALL)).sum::<f64>())
    }
}
