//! The published genotypes, by name.

use std::sync::OnceLock;

use super::Genotype;

/// Returns names and genotypes, in the order of `genotypes/published.txt`.
pub fn published() -> &'static [(String, Genotype)] {
    static ALL: OnceLock<Vec<(String, Genotype)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let lines = include_str!("../../genotypes/published.txt").lines().filter(|l| !l.starts_with('#'));
        let named = lines.filter_map(|line| line.split_once(" = "));
        named.filter_map(|(name, text)| Some((name.to_string(), Genotype::parse(text, name).ok()?))).collect()
    })
}
