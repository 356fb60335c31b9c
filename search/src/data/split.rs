//! Orders and halves of indices, by seed.

use milenas_models::Rng;

/// `0..n` in an order that the seed and the purpose decide.
pub fn shuffled(n: usize, seed: u64, purpose: &str) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..n).collect();
    Rng::new(seed, purpose).shuffle(&mut indices);
    indices
}

/// Indices of the images that train the weights, and of those that judge the architecture: `portion` of `0..n` and
/// the rest, both ascending. (The released code takes the first and the last half; sorted data would not stand it.)
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
    fn halves_part_everything() {
        let (a, b) = train_valid_split(101, 0.5, 7);
        let mut all = [a.clone(), b.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..101).collect::<Vec<_>>());
        assert_eq!(a.len(), 51);
        assert_eq!((a.clone(), b), train_valid_split(101, 0.5, 7));
        assert_ne!(a, train_valid_split(101, 0.5, 8).0);
    }
}
