//! Tests that no bytes cause a panic: weights, cards and genotypes of untrusted files.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use milenas_models::{CARD_KEY, Card, Genotype, NetworkConfig, Weights, assemble};
use proptest::prelude::*;

fn weights() -> Vec<u8> {
    let config = NetworkConfig {
        channels: 2,
        layers: 1,
        classes: 2,
        in_channels: 1,
        height: 8,
        width: 8,
        skeleton: Default::default(),
    };
    let graph = assemble(&Genotype::named("DARTS_V1").unwrap(), &config).unwrap();
    let text = BTreeMap::from([("a".to_string(), "b".to_string())]);
    Weights::init(&graph, 0).unwrap().to_bytes(text).unwrap()
}

proptest! {
    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Weights::from_bytes(&bytes, "x");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let _ = Genotype::parse(&text, "x");
        let _ = Genotype::parse(&format!("{{{text}"), "x");
        let _ = Card::from_metadata(&HashMap::from([(CARD_KEY.to_string(), text)]), "x");
    }

    #[test]
    fn damaged_weights(at in 0..4000usize, to in any::<u8>(), cut in 0..8000usize) {
        let mut bytes = weights();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = Weights::from_bytes(&bytes, "x");
        let cut = cut % bytes.len();
        prop_assert!(Weights::from_bytes(&weights()[..cut], "x").is_err());
    }

    #[test]
    fn any_numbers_in_a_genotype(from in any::<u64>(), concat in proptest::collection::vec(any::<u32>(), 0..5)) {
        let json = format!(
            "{{\"normal\": [[\"skip_connect\", {from}], [\"none\", 0]], \"normal_concat\": {concat:?}, \
             \"reduce\": [[\"none\", 0], [\"none\", 1]], \"reduce_concat\": [2]}}"
        );
        if let Ok(genotype) = Genotype::parse(&json, "x") {
            prop_assert!(from < 2 && concat == [2]);
            prop_assert_eq!(Genotype::parse(&genotype.to_string(), "x").unwrap(), genotype);
        }
    }
}

#[test]
fn a_deeply_nested_text_is_an_error() {
    let deep = format!("{{\"normal\": {}", "[".repeat(100_000));
    assert!(Genotype::parse(&deep, "x").is_err());
}
