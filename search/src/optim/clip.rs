//! Clipping by the norm of all gradients together, as `torch.nn.utils.clip_grad_norm_`.

/// Returns the sum of squares, computed in f64.
pub fn squared_norm(gradient: &[f32]) -> f64 {
    gradient.iter().map(|g| f64::from(*g).powi(2)).sum()
}

/// Returns the factor that scales gradients of norm `norm` to a norm of at most `most`. With `most` 0 there is
/// no limit.
pub fn clip_factor(norm: f64, most: f64) -> f32 {
    if most > 0.0 { (most / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_gradients_shrink() {
        assert_eq!(clip_factor(4.0, 5.0), 1.0);
        assert_eq!(clip_factor(1e9, 0.0), 1.0);
        assert!((clip_factor(10.0, 5.0) - 0.5).abs() < 1e-6);
        assert_eq!(squared_norm(&[3.0, 4.0]), 25.0);
    }
}
