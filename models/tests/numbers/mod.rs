//! Helpers of tests against PyTorch and against the executor.

use candle_core::Tensor;

/// Tolerance of values relative to the largest element, for float32 with other orders of summation.
pub const VALUES: f32 = 1e-4;
/// Tolerance of gradients relative to the largest element.
pub const GRADIENTS: f32 = 1e-3;

/// Returns the elements in row-major order.
pub fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Asserts that two slices are equal within a fraction of the largest element.
#[track_caller]
pub fn assert_close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-4f32, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{name}: differs by {worst}, its largest is {scale}");
}

/// Returns the mean cross-entropy of a batch.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    let max = logits.max_keepdim(1).unwrap().detach();
    let shifted = logits.broadcast_sub(&max).unwrap();
    let log_sum = shifted.exp().unwrap().sum_keepdim(1).unwrap().log().unwrap();
    let log_p = shifted.broadcast_sub(&log_sum).unwrap();
    log_p.gather(&labels.unsqueeze(1).unwrap(), 1).unwrap().mean_all().unwrap().neg().unwrap()
}
