//! What tests against PyTorch and against the executor share.

use candle_core::Tensor;

/// Of the largest element: float32, other orders of summation.
pub const VALUES: f32 = 1e-4;
/// The same for gradients.
pub const GRADIENTS: f32 = 1e-3;

/// The elements in order.
pub fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Equal within a part of the largest element.
#[track_caller]
pub fn assert_close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-4f32, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{name}: differs by {worst}, its largest is {scale}");
}

/// The mean over a batch.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    let max = logits.max_keepdim(1).unwrap().detach();
    let shifted = logits.broadcast_sub(&max).unwrap();
    let log_sum = shifted.exp().unwrap().sum_keepdim(1).unwrap().log().unwrap();
    let log_p = shifted.broadcast_sub(&log_sum).unwrap();
    log_p.gather(&labels.unsqueeze(1).unwrap(), 1).unwrap().mean_all().unwrap().neg().unwrap()
}
