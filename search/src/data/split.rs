//! Random orders and splits of indices, by seed.

use milenas_models::Rng;

/// Returns `0..n` in a random order that depends on seed and purpose.
pub fn shuffled(n: usize, seed: u64, purpose: &str) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..n).collect();
    Rng::new(seed, purpose).shuffle(&mut indices);
    indices
}

/// Splits `0..n` at random: a fraction `portion` trains the weights, the rest evaluates the architecture. Both
/// lists are ascending. (The released code takes the first and the last half, which fails for sorted data.)
pub fn train_valid_split(n: usize, portion: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut indices = shuffled(n, seed, "split");
    let mut rest = indices.split_off(((n as f64 * portion).round() as usize).min(n));
    indices.sort_unstable();
    rest.sort_unstable();
    (indices, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_covers_everything_once() {
        let (a, b) = train_valid_split(101, 0.5, 7);
        let mut all = [a.clone(), b.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..101).collect::<Vec<_>>());
        assert_eq!(a.len(), 51);
        assert_eq!((a.clone(), b), train_valid_split(101, 0.5, 7));
        assert_ne!(a, train_valid_split(101, 0.5, 8).0);
    }
}
