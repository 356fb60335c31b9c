//! Sum of gradient norms (Abdelfattah et al., ICLR 2021).

use super::{Score, Subject, is_weight};
use crate::Result;

/// The score `grad_norm`.
#[derive(Debug)]
pub struct GradNorm;

impl Score for GradNorm {
    fn name(&self) -> &'static str {
        "grad_norm"
    }

    fn doc(&self) -> &'static str {
        "sum over layers of the norms of the weights' gradients (Abdelfattah et al., ICLR 2021)"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        let mut network = subject.network()?;
        network.train_step(&subject.batch.numbers(), &subject.batch.labels)?;
        let tensors = network.tensors();
        let norm = |name: &str| -> Result<f64> {
            Ok(tensors.gradient(name)?.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt())
        };
        tensors.named().iter().filter(|p| is_weight(&p.shape)).map(|p| norm(&p.name)).sum()
    }
}
