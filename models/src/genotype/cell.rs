//! A cell: a small graph of operations between states.

use serde::{Deserialize, Serialize};

use crate::{Error, Primitive, Result};

/// Largest number of nodes of a cell. Published cells have at most five.
pub(super) const MAX_NODES: usize = 64;

/// Wiring of the nodes of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wiring {
    /// DARTS: states 0 and 1 are the outputs of the two cells before. A node keeps two edges, and the output is the
    /// concatenation of some nodes.
    TwoEdges,
    /// NAS-Bench-201: state 0 is the output of the cell before. A node has an edge from every earlier state, and the
    /// output is the last node.
    Complete,
}

impl Wiring {
    /// Number of input states of a cell.
    pub fn inputs(self) -> usize {
        match self {
            Wiring::TwoEdges => 2,
            Wiring::Complete => 1,
        }
    }

    /// Number of edges of a derived cell into its node `node`.
    pub fn edges_into(self, node: usize) -> usize {
        match self {
            Wiring::TwoEdges => 2,
            Wiring::Complete => node + self.inputs(),
        }
    }
}

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
    wiring: Wiring,
    pub(super) edges: Vec<Edge>,
    concat: Vec<usize>,
}

impl Cell {
    /// Returns a cell. `edges` are ordered by node, with as many edges per node as the wiring requires; `concat` are
    /// the states of the output.
    ///
    /// # Errors
    /// [`Error::Genotype`] for an edge from a later node, a node with missing edges, an output that is not a node, or
    /// one that the wiring does not allow.
    pub fn new(wiring: Wiring, edges: Vec<Edge>, concat: Vec<usize>) -> Result<Self> {
        Self::checked("cell", wiring, edges, concat)
    }

    pub(super) fn checked(kind: &str, wiring: Wiring, edges: Vec<Edge>, concat: Vec<usize>) -> Result<Self> {
        let fail = |place: String, problem: String| Err(Error::Genotype { place, problem });
        let (mut nodes, mut rest) = (0, edges.len());
        while rest >= wiring.edges_into(nodes) && nodes <= MAX_NODES {
            rest -= wiring.edges_into(nodes);
            nodes += 1;
        }
        if rest > 0 || nodes == 0 || nodes > MAX_NODES {
            let each = match wiring {
                Wiring::TwoEdges => "two for each",
                Wiring::Complete => "one from every earlier state for each",
            };
            let problem = format!("{} edges, expected {each} of 1 to {MAX_NODES} nodes", edges.len());
            return fail(kind.into(), problem);
        }
        let inputs = wiring.inputs();
        let cell = Cell { wiring, edges, concat };
        for (node, edges) in cell.nodes().enumerate() {
            let state = inputs + node;
            for (i, edge) in edges.iter().enumerate() {
                let (from, name) = (edge.from, edge.primitive.name());
                let problem = match wiring {
                    _ if from >= state => {
                        format!(
                            "`{name}` comes from state {from}, expected an earlier one (0 to {})",
                            state - 1
                        )
                    }
                    Wiring::Complete if from != i => {
                        format!(
                            "`{name}` comes from state {from}, expected {i}: one edge from each, in order"
                        )
                    }
                    _ => continue,
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
        if wiring == Wiring::Complete && cell.concat != [last] {
            return fail(place(), format!("states {:?}, expected the last node, {last}", cell.concat));
        }
        Ok(cell)
    }

    /// Returns the wiring of the nodes.
    pub fn wiring(&self) -> Wiring {
        self.wiring
    }

    /// Returns all edges, ordered by node.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Iterates over the edges of each node.
    pub fn nodes(&self) -> impl Iterator<Item = &[Edge]> {
        let mut rest = &self.edges[..];
        (0..).map_while(move |node| {
            let (edges, after) = rest.split_at_checked(self.wiring.edges_into(node))?;
            rest = after;
            Some(edges)
        })
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
