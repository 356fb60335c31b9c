//! A search space: which primitives may stand on which edges of a cell.

use crate::genotype::{CELL_INPUTS, Cell, Edge};
use crate::{Genotype, Primitive, Result, Rng};

/// A space of cells with two inputs, whose nodes keep their two best edges.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Space {
    pub name: &'static str,
    /// Candidates of every edge: the columns of alpha.
    pub primitives: Vec<Primitive>,
    /// Nodes of a cell.
    pub nodes: usize,
}

impl Space {
    /// DARTS (Liu et al., ICLR 2019): four nodes, seven operations and `none`.
    pub fn darts() -> Self {
        Space { name: "darts", primitives: Primitive::ALL[..8].to_vec(), nodes: 4 }
    }

    /// All edges `(from state, to state)`, node by node: the rows of alpha.
    pub fn edges(&self) -> Vec<(usize, usize)> {
        let to = CELL_INPUTS..CELL_INPUTS + self.nodes;
        to.flat_map(|to| (0..to).map(move |from| (from, to))).collect()
    }

    /// The states of a cell's output: all nodes.
    pub fn concat(&self) -> Vec<usize> {
        (CELL_INPUTS..CELL_INPUTS + self.nodes).collect()
    }

    /// Whether a search of this space can find the genotype.
    pub fn contains(&self, genotype: &Genotype) -> bool {
        let cell = |cell: &Cell| {
            let known = |e: &Edge| e.primitive != Primitive::None && self.primitives.contains(&e.primitive);
            let distinct = |node: &[Edge]| {
                node.iter().enumerate().all(|(i, e)| node[..i].iter().all(|o| o.from != e.from))
            };
            cell.concat() == self.concat() && cell.edges().iter().all(known) && cell.nodes().all(distinct)
        };
        cell(&genotype.normal) && cell(&genotype.reduce)
    }

    /// A uniform draw: two distinct inputs for each node, any operation but `none` on each.
    pub fn sample(&self, rng: &mut Rng) -> Result<Genotype> {
        Ok(Genotype { normal: self.sample_cell(rng)?, reduce: self.sample_cell(rng)? })
    }

    fn sample_cell(&self, rng: &mut Rng) -> Result<Cell> {
        let operations: Vec<Primitive> =
            self.primitives.iter().copied().filter(|p| *p != Primitive::None).collect();
        let mut edges = Vec::new();
        for node in self.concat() {
            let mut from: Vec<usize> = (0..node).collect();
            rng.shuffle(&mut from);
            edges.extend(
                from[..2]
                    .iter()
                    .map(|&from| Edge { primitive: operations[rng.below(operations.len())], from }),
            );
        }
        Cell::new(edges, self.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn darts_has_fourteen_edges_in_node_order() {
        let edges = Space::darts().edges();
        assert_eq!(edges.len(), 14);
        assert_eq!(edges[..5], [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]);
    }

    #[test]
    fn samples_are_members_and_foreign_cells_are_not() {
        let (space, mut rng) = (Space::darts(), Rng::new(0, "sample"));
        (0..50).for_each(|_| assert!(space.contains(&space.sample(&mut rng).unwrap())));
        assert!(space.contains(&Genotype::named("DARTS_V2").unwrap()));
        assert!(!space.contains(&Genotype::named("NASNet").unwrap()));
    }
}
