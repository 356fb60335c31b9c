//! Seeded random generators, one per purpose. An additional draw in one place does not change the draws in any other
//! place.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng};
use sha2::{Digest, Sha256};

/// A seeded generator whose position can be saved and restored.
#[derive(Clone, Debug, PartialEq)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// Returns the generator of a run's seed for one purpose: a parameter's name, `"split"`, `"augment"`.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let digest =
            Sha256::new().chain_update(seed.to_le_bytes()).chain_update(purpose.as_bytes()).finalize();
        Rng(ChaCha8Rng::from_seed(digest.into()))
    }

    /// Number of 32-bit words drawn so far.
    pub fn position(&self) -> u128 {
        self.0.get_word_pos()
    }

    /// Moves to a [`position`](Self::position).
    pub fn seek(&mut self, position: u128) {
        self.0.set_word_pos(position);
    }

    /// Returns a uniform 32-bit word.
    pub fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Returns a uniform value in `[0, 1)` with 24 bits.
    pub fn unit(&mut self) -> f32 {
        (self.word() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// Returns a uniform value in `[low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Returns a uniform integer in `0..n`, without modulo bias (Lemire's multiply-and-reject). Returns 0 if `n` is
    /// 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        loop {
            let wide = u64::from(self.word()) * n;
            if wide & 0xffff_ffff >= (1 << 32) % n.max(1) {
                return (wide >> 32) as usize;
            }
        }
    }

    /// Returns true with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// Returns a standard normal value (Box and Muller, one of the pair).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - f64::from(self.unit())).ln()).sqrt();
        (radius * (std::f64::consts::TAU * f64::from(self.unit())).cos()) as f32
    }

    /// Applies a uniform permutation in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_seeds_differ_and_repeat() {
        let first = |seed, purpose| Rng::new(seed, purpose).word();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
    }

    #[test]
    fn position_is_enough_to_continue() {
        let mut rng = Rng::new(3, "x");
        for _ in 0..37 {
            rng.word();
        }
        let mut copy = Rng::new(3, "x");
        copy.seek(rng.position());
        assert_eq!(rng.word(), copy.word());
    }

    #[test]
    fn draws_have_their_distributions() {
        let mut rng = Rng::new(0, "test");
        let n = 20_000i32;
        let mut counts = [0; 6];
        let (mut sum, mut square) = (0.0, 0.0);
        for _ in 0..n {
            counts[rng.below(6)] += 1;
            let x = f64::from(rng.normal());
            sum += x;
            square += x * x;
        }
        assert!(counts.iter().all(|c| (c - n / 6).abs() < 250), "{counts:?}");
        assert!((sum / f64::from(n)).abs() < 0.03 && (square / f64::from(n) - 1.0).abs() < 0.05);
    }
}
