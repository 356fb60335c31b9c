//! Count and digest of all inputs of a run, whichever shard they belong to.

use milenas_models::hexadecimal;
use sha2::{Digest, Sha256};

/// Count and digest of the inputs listed so far.
#[derive(Clone, Default)]
pub struct Census {
    count: usize,
    names: Sha256,
}

impl Census {
    /// Records the next input and returns its index, from 0.
    pub fn add(&mut self, name: &str) -> usize {
        // The length separates names that contain line feeds.
        self.names.update((name.len() as u64).to_le_bytes());
        self.names.update(name);
        self.count += 1;
        self.count - 1
    }

    /// Returns the number of inputs.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the SHA-256 of all names, in order.
    pub fn names(&self) -> String {
        hexadecimal(self.names.clone().finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_order_count() {
        let census = |names: &[&str]| {
            let mut census = Census::default();
            let places: Vec<usize> = names.iter().map(|name| census.add(name)).collect();
            assert!(places.iter().copied().eq(0..names.len()) && census.count() == names.len());
            census.names()
        };
        let all = [&["a", "b"][..], &["b", "a"], &["ab"], &["ab", ""], &["a\nb"]].map(census);
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one), "{i}");
        }
        assert_eq!(census(&["a", "b"]), all[0]);
    }
}
