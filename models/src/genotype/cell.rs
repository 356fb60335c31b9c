//! A cell: a small graph of operations between states.

use serde::{Deserialize, Serialize};

use crate::{Error, Primitive, Result};

/// Largest number of nodes of a cell. Published cells have at most five.
pub(super) const MAX_NODES: usize = 64;

/// An operation of a cell, applied to an earlier state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(Primitive, usize)", into = "(Primitive, usize)")]
pub struct Edge {
    /// The operation.
    pub primitive: Primitive,
    /// Index of the source state. The cell's inputs come first, then the nodes.
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

/// A cell. Each node is the sum of its edges, and the output is the concatenation of some states.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Number of input states.
    inputs: usize,
    pub(super) edges: Vec<Edge>,
    /// Number of edges into each node and all nodes before it.
    ends: Vec<usize>,
    concat: Vec<usize>,
}

/// Rule for the edges of the nodes.
#[derive(Clone, Copy)]
struct EdgeRule {
    inputs: usize,
    /// Number of edges into a node.
    into: fn(usize) -> usize,
    /// The rule in words.
    words: &'static str,
    /// Whether edge `i` of a node comes from state `i`.
    ordered: bool,
}

const PAIRS: EdgeRule = EdgeRule { inputs: 2, into: |_| 2, words: "two for each", ordered: false };
const COMPLETE: EdgeRule = EdgeRule {
    inputs: 1,
    into: |node| node + 1,
    words: "one from every earlier state for each",
    ordered: true,
};

impl Cell {
    /// Returns a cell of DARTS. States 0 and 1 are the outputs of the two cells before, `edges` has two edges for each
    /// node, ordered by node, and `concat` are the states of the output.
    ///
    /// # Errors
    /// [`Error::Genotype`] for an edge from a later node, a node with a missing edge, or an output that is not a node.
    pub fn pairs(edges: Vec<Edge>, concat: Vec<usize>) -> Result<Self> {
        Self::checked_pairs("cell", edges, concat)
    }

    /// Returns the cell of [`pairs`](Self::pairs). Errors name it by `kind`.
    pub(super) fn checked_pairs(kind: &str, edges: Vec<Edge>, concat: Vec<usize>) -> Result<Self> {
        Self::checked(kind, PAIRS, edges, concat)
    }

    /// Returns a cell of NAS-Bench-201. State 0 is the output of the cell before, a node has an edge from every earlier
    /// state, in order, and the output is the last node.
    ///
    /// # Errors
    /// [`Error::Genotype`] for a missing edge, or edges in another order.
    pub fn complete(edges: Vec<Edge>) -> Result<Self> {
        let nodes = (1..).scan(0, |edges, into| {
            *edges += into;
            Some(*edges)
        });
        let last = 1 + nodes.take(MAX_NODES).take_while(|ends| *ends < edges.len()).count();
        Self::checked("the", COMPLETE, edges, vec![last])
    }

    fn checked(kind: &str, rule: EdgeRule, edges: Vec<Edge>, concat: Vec<usize>) -> Result<Self> {
        let fail = |place: String, problem: String| Err(Error::Genotype { place, problem });
        let mut ends = Vec::new();
        let mut end = 0;
        while edges.len() >= end + (rule.into)(ends.len()) && ends.len() <= MAX_NODES {
            end += (rule.into)(ends.len());
            ends.push(end);
        }
        let nodes = ends.len();
        if end < edges.len() || nodes == 0 || nodes > MAX_NODES {
            let problem = format!("{} edges, expected {} of 1 to {MAX_NODES} nodes", edges.len(), rule.words);
            return fail(kind.into(), problem);
        }
        let inputs = rule.inputs;
        let cell = Cell { inputs, edges, ends, concat };
        for (node, edges) in cell.nodes().enumerate() {
            let state = inputs + node;
            for (i, edge) in edges.iter().enumerate() {
                let (from, name) = (edge.from, edge.primitive.name());
                let problem = if from >= state {
                    format!("`{name}` comes from state {from}, expected an earlier one (0 to {})", state - 1)
                } else if rule.ordered && from != i {
                    format!("`{name}` comes from state {from}, expected {i}: one edge from each, in order")
                } else {
                    continue;
                };
                return fail(format!("{kind} cell, node {state}, edge {i}"), problem);
            }
        }
        let place = || format!("{kind} cell, output");
        let last = inputs + nodes - 1;
        if cell.concat.is_empty() {
            return fail(place(), "no state, expected at least one".into());
        }
        for (i, state) in cell.concat.iter().enumerate() {
            if !(inputs..=last).contains(state) || cell.concat[..i].contains(state) {
                return fail(place(), format!("state {state}, expected nodes {inputs} to {last}, each once"));
            }
        }
        Ok(cell)
    }

    /// Returns the number of input states: 2 in cells of DARTS, 1 in cells of NAS-Bench-201.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns all edges, ordered by node.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Iterates over the edges of each node.
    pub fn nodes(&self) -> impl Iterator<Item = &[Edge]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.edges[start..*end])
    }

    /// Returns the states of the output, in order.
    pub fn concat(&self) -> &[usize] {
        &self.concat
    }

    /// Number of convolutions among the operations: MiLeNAS' size of a cell (section 3.3).
    pub fn convolutions(&self) -> usize {
        self.edges.iter().filter(|e| e.primitive.is_convolution()).count()
    }

    /// Number of skip connections among the operations. A large number indicates a collapsed search.
    pub fn skips(&self) -> usize {
        self.edges.iter().filter(|e| e.primitive == Primitive::SkipConnect).count()
    }
}
