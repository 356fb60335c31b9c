//! Cross-entropy of rows of logits, and its gradient.

/// Returns the mean cross-entropy of `[N, classes]` logits and the number of correct predictions. Replaces the logits
/// by the gradient of `weight` times the mean.
///
/// `smoothing` is the part of a label that is distributed evenly over all classes (Szegedy et al., 2016), as
/// PyTorch's `label_smoothing`.
pub fn cross_entropy(
    logits: &mut [f32],
    classes: usize,
    labels: &[u32],
    smoothing: f64,
    weight: f64,
) -> (f64, usize) {
    let (mut loss, mut correct) = (0.0, 0);
    let even = smoothing / classes as f64;
    for (logits, &label) in logits.chunks_exact_mut(classes).zip(labels) {
        let label = label as usize;
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
        loss += sum.ln() - (1.0 - smoothing) * f64::from(logits[label] - max);
        if smoothing > 0.0 {
            loss -= even * logits.iter().map(|x| f64::from(x - max)).sum::<f64>();
        }
        correct += (logits.iter().position(|x| *x == max) == Some(label)) as usize;
        for (class, x) in logits.iter_mut().enumerate() {
            let p = f64::from(*x - max).exp() / sum;
            let target = (1.0 - smoothing) * (class == label) as usize as f64 + even;
            *x = (weight * (p - target) / labels.len() as f64) as f32;
        }
    }
    (loss / labels.len() as f64, correct)
}

#[cfg(test)]
mod tests {
    use super::cross_entropy;

    const LOGITS: [f32; 6] = [1.0, 2.0, 4.0, 0.5, -1.0, 0.25];

    /// Cross-entropy by its definition: minus the sum of target times log-probability.
    fn defined(logits: &[f32], labels: &[u32], smoothing: f64) -> f64 {
        let rows = logits.chunks_exact(3).zip(labels);
        let row = |(row, label): (&[f32], &u32)| -> f64 {
            let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            let target =
                |c: usize| smoothing / 3.0 + if c == *label as usize { 1.0 - smoothing } else { 0.0 };
            row.iter().enumerate().map(|(c, x)| -target(c) * (f64::from(*x).exp() / total).ln()).sum()
        };
        rows.map(row).sum::<f64>() / labels.len() as f64
    }

    #[test]
    fn smoothing_is_a_mixture_with_the_even_label() {
        for smoothing in [0.0, 0.1, 1.0] {
            let (loss, correct) = cross_entropy(&mut LOGITS.clone(), 3, &[2, 1], smoothing, 1.0);
            assert!((loss - defined(&LOGITS, &[2, 1], smoothing)).abs() < 1e-12, "{smoothing}: {loss}");
            assert_eq!(correct, 1);
        }
    }

    #[test]
    fn its_gradient_is_that_of_finite_differences() {
        let mut gradient = LOGITS;
        cross_entropy(&mut gradient, 3, &[2, 1], 0.1, 0.4);
        for i in 0..6 {
            let at = |step: f32| {
                let mut moved = LOGITS;
                moved[i] += step;
                0.4 * defined(&moved, &[2, 1], 0.1)
            };
            let expected = (at(0.01) - at(-0.01)) / 0.02;
            assert!((f64::from(gradient[i]) - expected).abs() < 1e-5, "{i}: {} {expected}", gradient[i]);
        }
    }
}
