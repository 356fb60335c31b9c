//! All inputs of a run, counted and named, whichever shard they fall to.

use milenas_models::hexadecimal;
use sha2::{Digest, Sha256};

/// Grows as the inputs are listed.
#[derive(Clone, Default)]
pub struct Census {
    count: usize,
    names: Sha256,
}

impl Census {
    /// Records the next input and returns its index, from 0.
    pub fn add(&mut self, name: &str) -> usize {
        // The length keeps names apart that hold a line feed.
        self.names.update((name.len() as u64).to_le_bytes());
        self.names.update(name);
        self.count += 1;
        self.count - 1
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// SHA-256 of all names in their order.
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
