//! A genotype: what a search finds. A value, checked once when it is made.

mod python;
mod zoo;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Primitive, Result};

pub use zoo::published;

/// Edges kept for each node of a DARTS cell.
const EDGES_PER_NODE: usize = 2;
/// States a cell starts from: the outputs of the two cells before it.
pub const CELL_INPUTS: usize = 2;
/// Nodes a cell may have. Published cells have at most five.
const MAX_NODES: usize = 64;

/// One operation of a cell, from an earlier state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(Primitive, usize)", into = "(Primitive, usize)")]
#[allow(missing_docs)]
pub struct Edge {
    pub primitive: Primitive,
    /// 0 and 1 are the cell's inputs, 2 is the first node.
    pub from: usize,
}

impl From<(Primitive, usize)> for Edge {
    fn from((primitive, from): (Primitive, usize)) -> Self {
        Edge { primitive, from }
    }
}

impl From<Edge> for (Primitive, usize) {
    fn from(edge: Edge) -> Self {
        (edge.primitive, edge.from)
    }
}

/// A cell: each node is the sum of its edges, the output is some states side by side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    edges: Vec<Edge>,
    concat: Vec<usize>,
}

impl Cell {
    /// Two edges a node, nodes in order; `concat` names the states of the output.
    ///
    /// # Errors
    /// An edge from a later node, an odd number of edges, an output that is no node.
    pub fn new(edges: Vec<Edge>, concat: Vec<usize>) -> Result<Self> {
        Self::checked("cell", edges, concat)
    }

    fn checked(kind: &str, edges: Vec<Edge>, concat: Vec<usize>) -> Result<Self> {
        let fail = |place: String, problem: String| Err(Error::Genotype { place, problem });
        let nodes = edges.len() / EDGES_PER_NODE;
        if !edges.len().is_multiple_of(EDGES_PER_NODE) || nodes == 0 || nodes > MAX_NODES {
            let problem = format!("{} edges, expected two for each of 1 to {MAX_NODES} nodes", edges.len());
            return fail(kind.into(), problem);
        }
        for (i, edge) in edges.iter().enumerate() {
            let node = CELL_INPUTS + i / EDGES_PER_NODE;
            if edge.from >= node {
                let problem = format!(
                    "`{}` comes from state {}, expected an earlier one (0 to {})",
                    edge.primitive.name(),
                    edge.from,
                    node - 1
                );
                return fail(format!("{kind} cell, node {node}, edge {}", i % EDGES_PER_NODE), problem);
            }
        }
        let place = || format!("{kind} cell, output");
        if concat.is_empty() {
            return fail(place(), "no state, expected at least one".into());
        }
        for (i, state) in concat.iter().enumerate() {
            if !(CELL_INPUTS..CELL_INPUTS + nodes).contains(state) || concat[..i].contains(state) {
                let last = CELL_INPUTS + nodes - 1;
                return fail(
                    place(),
                    format!("state {state}, expected nodes {CELL_INPUTS} to {last}, each once"),
                );
            }
        }
        Ok(Cell { edges, concat })
    }

    /// All edges, two a node, nodes in order.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The edges of each node.
    pub fn nodes(&self) -> impl Iterator<Item = &[Edge]> {
        self.edges.chunks(EDGES_PER_NODE)
    }

    /// The states of the output, in order.
    pub fn concat(&self) -> &[usize] {
        &self.concat
    }

    /// How many of its operations are convolutions: MiLeNAS' size of a cell (section 3.3).
    pub fn convolutions(&self) -> usize {
        self.edges.iter().filter(|e| e.primitive.is_convolution()).count()
    }

    /// How many of its operations are skip connections: many are the sign of a collapsed search.
    pub fn skips(&self) -> usize {
        self.edges.iter().filter(|e| e.primitive == Primitive::SkipConnect).count()
    }
}

/// A normal and a reduction cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
#[allow(missing_docs)]
pub struct Genotype {
    pub normal: Cell,
    pub reduce: Cell,
}

/// The fields of the JSON form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    normal: Vec<Edge>,
    normal_concat: Vec<usize>,
    reduce: Vec<Edge>,
    reduce_concat: Vec<usize>,
}

impl TryFrom<Plain> for Genotype {
    type Error = Error;

    fn try_from(plain: Plain) -> Result<Self> {
        Ok(Genotype {
            normal: Cell::checked("normal", plain.normal, plain.normal_concat)?,
            reduce: Cell::checked("reduction", plain.reduce, plain.reduce_concat)?,
        })
    }
}

impl From<Genotype> for Plain {
    fn from(genotype: Genotype) -> Self {
        let Genotype { normal, reduce } = genotype;
        Plain {
            normal: normal.edges,
            normal_concat: normal.concat,
            reduce: reduce.edges,
            reduce_concat: reduce.concat,
        }
    }
}

impl Genotype {
    /// Reads JSON, or the text that the published code prints: `Genotype(normal=[('sep_conv_3x3', 1), ...], ...)`.
    ///
    /// # Errors
    /// Where the text stops being a genotype, or which rule the genotype breaks; `place` names the file.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        if !text.trim_start().starts_with('{') {
            return python::parse(text, place);
        }
        serde_json::from_str(text).map_err(|e| Error::malformed(place, e.to_string()))
    }

    /// A published genotype by name.
    pub fn named(name: &str) -> Result<Self> {
        let all = published();
        let found = all.iter().find(|(known, _)| known == name);
        found
            .map(|(_, g)| g.clone())
            .ok_or_else(|| Error::unknown("genotype", name, all.iter().map(|(n, _)| n.clone())))
    }

    /// The JSON form, a line for each field.
    pub fn to_json(&self) -> String {
        let list = |edges: &[Edge]| {
            let items = edges.iter().map(|e| format!("[\"{}\", {}]", e.primitive.name(), e.from));
            items.collect::<Vec<_>>().join(", ")
        };
        format!(
            "{{\n  \"normal\": [{}],\n  \"normal_concat\": {:?},\n  \"reduce\": [{}],\n  \"reduce_concat\": {:?}\n}}\n",
            list(&self.normal.edges),
            self.normal.concat,
            list(&self.reduce.edges),
            self.reduce.concat
        )
    }
}

impl fmt::Display for Genotype {
    /// The text that the published code prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        python::print(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_genotype_survives_both_forms() {
        for (name, genotype) in published() {
            assert_eq!(Genotype::parse(&genotype.to_json(), name).unwrap(), *genotype);
            assert_eq!(Genotype::parse(&genotype.to_string(), name).unwrap(), *genotype);
            let json = serde_json::to_string(genotype).unwrap();
            assert_eq!(Genotype::parse(&json, name).unwrap(), *genotype);
        }
    }

    #[test]
    fn an_edge_from_a_later_node_is_refused_by_place() {
        let text = Genotype::named("DARTS_V2").unwrap().to_json().replacen(
            "[\"sep_conv_3x3\", 1]",
            "[\"sep_conv_3x3\", 2]",
            1,
        );
        let message = Genotype::parse(&text, "x").unwrap_err().to_string();
        assert!(message.contains("normal cell, node 2, edge 1") && message.contains("0 to 1"), "{message}");
    }

    #[test]
    fn a_near_name_is_suggested() {
        let message = Genotype::named("DARTS_V3").unwrap_err().to_string();
        assert!(message.contains("did you mean `DARTS_V"), "{message}");
    }
}
