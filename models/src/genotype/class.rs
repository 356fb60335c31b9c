//! Isomorphism classes of genotypes: genotypes of one class are the same network.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{Cell, Genotype};
use crate::Primitive;

type Hash = [u8; 32];

/// A sum: the number of occurrences of each term, by the hash of the term's computation. The empty sum is zero.
type Sum = BTreeMap<Hash, u64>;

/// Hash of the computation of a genotype, which does not depend on the order of its nodes. A skip connection equals
/// its source. `none`, and operations whose inputs are all `none`, are zero and vanish from sums.
///
/// These classes are coarser than the 6,466 classes of NAS-Bench-201 (section 2.1), where a zero in a sum still
/// distinguishes two cells. Here its cells fall into 4,930 classes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class(Hash);

impl Genotype {
    /// Returns the isomorphism class.
    pub fn class(&self) -> Class {
        let mut hasher = Sha256::new();
        for (name, cell) in self.cells() {
            hasher.update(name);
            hasher.update(hash(cell, name == "reduce"));
        }
        if let (Some(picks), Some(space)) = (self.picks(), self.space()) {
            hasher.update(space.name());
            picks.iter().for_each(|pick| hasher.update(pick.to_le_bytes()));
        }
        Class(hasher.finalize().into())
    }
}

/// Returns the hash of a cell's output. In a cell that halves the image, skip connections of its inputs are
/// operations.
fn hash(cell: &Cell, halves: bool) -> Hash {
    let inputs = cell.inputs();
    let input = |i: usize| Sum::from([(digest("input", &i.to_le_bytes()), 1)]);
    let mut states: Vec<Sum> = (0..inputs).map(input).collect();
    for edges in cell.nodes() {
        let mut sum = Sum::new();
        for edge in edges {
            let from = &states[edge.from];
            let passes = edge.primitive == Primitive::SkipConnect && !(halves && edge.from < inputs);
            match edge.primitive {
                _ if from.is_empty() => {}
                Primitive::None => {}
                _ if passes => from.iter().for_each(|(term, count)| {
                    let total = sum.entry(*term).or_default();
                    *total = total.saturating_add(*count);
                }),
                operation => *sum.entry(digest(operation.name(), &bytes(from))).or_default() += 1,
            }
        }
        states.push(sum);
    }
    // The order of concatenated channels depends only on the weights of the next operation.
    let mut parts: Vec<Vec<u8>> = cell.concat().iter().map(|&state| bytes(&states[state])).collect();
    parts.sort();
    let parts: Vec<u8> = parts.iter().flat_map(|part| digest("part", part)).collect();
    digest("cell", &parts)
}

fn bytes(sum: &Sum) -> Vec<u8> {
    sum.iter().flat_map(|(term, count)| term.iter().copied().chain(count.to_le_bytes())).collect()
}

fn digest(what: &str, of: &[u8]) -> Hash {
    Sha256::new().chain_update(what).chain_update([0]).chain_update(of).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> Class {
        Genotype::parse(text, "test").unwrap().class()
    }

    #[test]
    fn skips_are_their_source_and_zeros_drop_out() {
        let one = class("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|");
        assert_eq!(class("|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|"), one);
        // A convolution of zero is zero.
        assert_eq!(class("|none~0|+|none~0|nor_conv_1x1~1|+|nor_conv_3x3~0|none~1|avg_pool_3x3~2|"), one);
        // A different operation, or the same one twice, gives another class.
        assert_ne!(class("|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"), one);
        assert_ne!(class("|skip_connect~0|+|none~0|none~1|+|nor_conv_3x3~0|nor_conv_3x3~1|none~2|"), one);
    }

    #[test]
    fn the_order_of_nodes_does_not_matter() {
        let genotype = |normal: &str, concat: &str| {
            let text = format!(
                "Genotype(normal={normal}, normal_concat={concat}, reduce=[('skip_connect', 0), ('skip_connect', 1)], \
                 reduce_concat=range(2, 3))"
            );
            class(&text)
        };
        let one = "[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1)]";
        let other = "[('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 0)]";
        assert_eq!(genotype(one, "range(2, 4)"), genotype(other, "[3, 2]"));
        assert_ne!(genotype(one, "[2]"), genotype(other, "[2]"));
    }

    #[test]
    fn a_skip_that_halves_is_an_operation() {
        let reduce = |reduce: &str| {
            let normal = "[('skip_connect', 0), ('skip_connect', 1)]";
            class(&format!(
                "Genotype(normal={normal}, normal_concat=[2], reduce={reduce}, reduce_concat=[3])"
            ))
        };
        let through =
            |pool: &str| format!("[('{pool}', 0), ('none', 1), ('skip_connect', 2), ('skip_connect', 0)]");
        assert_ne!(reduce(&through("skip_connect")), reduce(&through("none")));
        let doubled = "[('none', 0), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 2)]";
        let swapped = "[('skip_connect', 1), ('none', 0), ('skip_connect', 2), ('skip_connect', 0)]";
        assert_eq!(reduce(doubled), reduce(swapped));
    }
}
