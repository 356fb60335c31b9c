//! The text format of NAS-Bench-201: nodes joined by `+`, with edges `operation~state`, as in
//! `|nor_conv_3x3~0|+|none~0|skip_connect~1|`.

use super::{Cell, Edge, Genotype};
use crate::{Error, Primitive, Result};

/// Largest length of a text in bytes.
const MAX_TEXT: usize = 16 << 10;

pub(super) fn print(cell: &Cell) -> String {
    let node = |edges: &[Edge]| {
        let edges: String = edges.iter().map(|e| format!("{}~{}|", e.primitive.name(), e.from)).collect();
        format!("|{edges}")
    };
    cell.nodes().map(node).collect::<Vec<_>>().join("+")
}

pub(super) fn parse(text: &str, place: &str) -> Result<Genotype> {
    if text.len() > MAX_TEXT {
        let found = text.len() as u64;
        return Err(Error::Limit { place: place.into(), what: "the length", found, limit: MAX_TEXT as u64 });
    }
    let mut edges = Vec::new();
    for (node, part) in text.split('+').enumerate() {
        let place = || format!("{place}, node {}", node + 1);
        let inner = part.strip_prefix('|').and_then(|p| p.strip_suffix('|'));
        let Some(inner) = inner.filter(|inner| inner.split('|').count() == node + 1) else {
            let problem = format!("`{part}`, expected {} edges `|operation~state|`", node + 1);
            return Err(Error::malformed(place(), problem));
        };
        for edge in inner.split('|') {
            let pair = edge.split_once('~').and_then(|(name, from)| Some((name, from.parse().ok()?)));
            let Some((name, from)) = pair else {
                return Err(Error::malformed(place(), format!("`{edge}`, expected `operation~state`")));
            };
            edges.push(Edge { primitive: Primitive::parse(name)?, from });
        }
    }
    Ok(Genotype::single(Cell::complete(edges)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEST: &str =
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|";

    #[test]
    fn text_and_json_survive() {
        let genotype = Genotype::parse(BEST, "x").unwrap();
        assert_eq!(genotype.to_string(), BEST);
        assert_eq!(Genotype::parse(&genotype.to_json(), "x").unwrap(), genotype);
        assert_eq!(serde_json::to_string(&genotype).unwrap(), format!("{{\"arch\":\"{BEST}\"}}"));
        assert_eq!(genotype.convolutions(), [5, 0]);
    }

    #[test]
    fn faults_are_named_by_place() {
        for (text, expected) in [
            ("|nor_conv_3x3~0|+|none~0|", "node 2"),
            ("|nor_conv_3x3~0|+|none~0|none~0|", "expected 1"),
            ("|nor_conv_3x3~1|", "expected an earlier one"),
            ("|conv~0|", "conv"),
            ("|none0|", "operation~state"),
            ("|none~0", "expected 1 edges"),
        ] {
            let message = Genotype::parse(text, "arch").unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
