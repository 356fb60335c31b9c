//! Mean cross-entropy.

use candle_core::{Result, Tensor};
use milenas_models::metrics::rank;

/// The mean cross-entropy of `[N, classes]` logits, and how many labels have the largest logit.
pub fn cross_entropy(logits: &Tensor, labels: &[u32]) -> Result<(Tensor, usize)> {
    let target = Tensor::from_slice(labels, labels.len(), logits.device())?;
    let loss = candle_nn::loss::cross_entropy(logits, &target)?;
    let rows: Vec<Vec<f32>> = logits.to_vec2()?;
    Ok((loss, rows.iter().zip(labels).filter(|(row, label)| rank(row, **label) == 0).count()))
}
