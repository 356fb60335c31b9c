//! Cross-entropy loss on tensors.

use candle_core::{Result, Tensor};
use milenas_models::metrics::rank;

/// Returns the mean cross-entropy of `[N, classes]` logits, and the number of labels that have the largest
/// logit. Label smoothing spreads the fraction `smoothing` of each label over all classes.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<(Tensor, usize)> {
    let target = Tensor::from_slice(labels, (labels.len(), 1), logits.device())?;
    let log = candle_nn::ops::log_softmax(logits, 1)?;
    let hard = log.gather(&target, 1)?.mean_all()?;
    let loss = match smoothing {
        0.0 => hard.neg()?,
        part => ((hard * (part - 1.0))? - (log.mean_all()? * part)?)?,
    };
    let rows: Vec<Vec<f32>> = logits.to_vec2()?;
    Ok((loss, rows.iter().zip(labels).filter(|(row, label)| rank(row, **label) == 0).count()))
}
