//! Search spaces: the primitives that are allowed on the edges of a cell. A space is one file and one row of the table.

use crate::genotype::{Cell, Edge, Wiring};
use crate::{Error, Genotype, Primitive, Result, Rng};

/// A search space of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Name of the space.
    pub name: &'static str,
    /// Description; a noun phrase.
    pub doc: &'static str,
    /// Candidates of every edge, in the order of the columns of alpha.
    pub primitives: &'static [Primitive],
    /// Number of nodes of a cell.
    pub nodes: usize,
    /// Wiring of the nodes.
    pub wiring: Wiring,
}

/// Declares the table of spaces: a file and its constant for each.
macro_rules! spaces {
    ($($file:ident::$space:ident,)+) => {
        $(mod $file;)+

        impl Space {
            /// All spaces.
            pub const ALL: [Space; [$(stringify!($file)),+].len()] = [$(Space::$space),+];
        }
    };
}

spaces! {
    darts::DARTS,
    nasbench201::NASBENCH201,
    darts_s2::DARTS_S2,
    darts_s3::DARTS_S3,
}

impl Space {
    /// Returns a space by name.
    ///
    /// # Errors
    /// [`Error::Unknown`] for an unknown name.
    pub fn named(name: &str) -> Result<Space> {
        let found = Space::ALL.into_iter().find(|space| space.name == name);
        found.ok_or_else(|| Error::unknown("space", name, Space::ALL.map(|space| space.name)))
    }

    /// Returns all edges `(from state, to state)`, ordered by node, which are the rows of alpha.
    pub fn edges(&self) -> Vec<(usize, usize)> {
        self.states().flat_map(|to| (0..to).map(move |from| (from, to))).collect()
    }

    /// Returns the range of the nodes' states.
    pub fn states(&self) -> core::ops::Range<usize> {
        self.wiring.inputs()..self.wiring.inputs() + self.nodes
    }

    /// Returns the states of a cell's output.
    pub fn concat(&self) -> Vec<usize> {
        match self.wiring {
            Wiring::TwoEdges => self.states().collect(),
            Wiring::Complete => self.states().next_back().into_iter().collect(),
        }
    }

    /// Whether a derived cell may contain `none`.
    fn keeps_none(&self) -> bool {
        self.wiring == Wiring::Complete
    }

    /// Iterates over the operations that a derived cell may have on an edge.
    pub fn choices(&self) -> impl Iterator<Item = Primitive> {
        let none = self.keeps_none();
        self.primitives.iter().copied().filter(move |p| none || *p != Primitive::None)
    }

    /// Whether a search of this space can find the genotype.
    pub fn contains(&self, genotype: &Genotype) -> bool {
        let cell = |cell: &Cell| {
            let known = |e: &Edge| self.choices().any(|p| p == e.primitive);
            let distinct = |node: &[Edge]| {
                node.iter().enumerate().all(|(i, e)| node[..i].iter().all(|o| o.from != e.from))
            };
            cell.wiring() == self.wiring
                && cell.nodes().count() == self.nodes
                && cell.concat() == self.concat()
                && cell.edges().iter().all(known)
                && cell.nodes().all(distinct)
        };
        genotype.reduce.is_some() == self.has_reduction() && genotype.cells().all(|(_, c)| cell(c))
    }

    /// Whether a reduction cell is searched too.
    pub fn has_reduction(&self) -> bool {
        self.wiring == Wiring::TwoEdges
    }

    /// Returns a uniformly drawn genotype: distinct inputs for each node, and any allowed operation on each edge.
    pub fn sample(&self, rng: &mut Rng) -> Result<Genotype> {
        let normal = self.sample_cell(rng)?;
        let reduce = self.has_reduction().then(|| self.sample_cell(rng)).transpose()?;
        Ok(Genotype::new(normal, reduce).of(*self))
    }

    fn sample_cell(&self, rng: &mut Rng) -> Result<Cell> {
        let operations: Vec<Primitive> = self.choices().collect();
        let mut edges = Vec::new();
        for (node, state) in self.states().enumerate() {
            let mut from: Vec<usize> = (0..state).collect();
            if self.wiring == Wiring::TwoEdges {
                rng.shuffle(&mut from);
            }
            edges.extend(
                from[..self.wiring.edges_into(node)]
                    .iter()
                    .map(|&from| Edge { primitive: operations[rng.below(operations.len())], from }),
            );
        }
        Cell::new(self.wiring, edges, self.concat())
    }

    /// Returns a mutation, as in regularised evolution: a cell, one of its nodes and one of that node's edges are
    /// drawn uniformly. The edge gets another operation. If nodes choose their inputs, half of the mutations change
    /// the input instead.
    pub fn mutate(&self, genotype: &Genotype, rng: &mut Rng) -> Result<Genotype> {
        let mut genotype = genotype.clone();
        let cell = match &mut genotype.reduce {
            Some(reduce) if rng.below(2) == 1 => reduce,
            _ => &mut genotype.normal,
        };
        let node = rng.below(self.nodes);
        let first: usize = (0..node).map(|n| self.wiring.edges_into(n)).sum();
        let count = self.wiring.edges_into(node);
        let at = first + rng.below(count);
        let mut edges = cell.edges().to_vec();
        let taken = |from: usize| edges[first..first + count].iter().any(|e| e.from == from);
        let free: Vec<usize> = (0..node + self.wiring.inputs()).filter(|from| !taken(*from)).collect();
        if self.wiring == Wiring::TwoEdges && !free.is_empty() && rng.below(2) == 1 {
            edges[at].from = free[rng.below(free.len())];
        } else {
            let others: Vec<Primitive> = self.choices().filter(|p| *p != edges[at].primitive).collect();
            edges[at].primitive = others[rng.below(others.len())];
        }
        *cell = Cell::new(self.wiring, edges, self.concat())?;
        Ok(genotype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_space_is_described_and_found_by_name() {
        for space in Space::ALL {
            assert_eq!(Space::named(space.name).unwrap(), space);
            assert!(space.doc.contains("20") && space.primitives.len() <= 8, "{}", space.name);
            let different =
                (1..space.primitives.len()).all(|k| !space.primitives[..k].contains(&space.primitives[k]));
            assert!(different && space.choices().count() > 1, "{}", space.name);
        }
        let message = Space::named("dart").unwrap_err().to_string();
        assert!(message.contains("did you mean `darts`"), "{message}");
    }

    #[test]
    fn edges_are_in_node_order() {
        let edges = Space::DARTS.edges();
        assert_eq!(edges.len(), 14);
        assert_eq!(edges[..5], [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]);
        assert_eq!(Space::NASBENCH201.edges(), [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]);
    }

    #[test]
    fn samples_and_mutants_are_members_and_foreign_cells_are_not() {
        for space in Space::ALL {
            let mut rng = Rng::new(0, "sample");
            for _ in 0..50 {
                let parent = space.sample(&mut rng).unwrap();
                let child = space.mutate(&parent, &mut rng).unwrap();
                assert!(space.contains(&parent) && space.contains(&child) && parent != child);
                assert_eq!(child.space(), Some(space));
                assert_eq!(Genotype::parse(&child.to_json(), "x").unwrap().space(), Some(space));
            }
        }
        let published = Genotype::named("DARTS_V2").unwrap();
        assert!(Space::DARTS.contains(&published) && !Space::NASBENCH201.contains(&published));
        assert!(!Space::DARTS.contains(&Genotype::named("NASNet").unwrap()));
    }

    /// One third for node 1's edge, a sixth for each of node 2's, a ninth for each of node 3's.
    #[test]
    fn a_mutation_picks_the_node_first() {
        let (space, mut rng) = (Space::NASBENCH201, Rng::new(1, "mutate"));
        let parent = space.sample(&mut rng).unwrap();
        let mut counts = [0.0; 6];
        const DRAWS: usize = 18_000;
        for _ in 0..DRAWS {
            let child = space.mutate(&parent, &mut rng).unwrap();
            let pairs = parent.normal.edges().iter().zip(child.normal.edges());
            counts[pairs.enumerate().find(|(_, (a, b))| a != b).unwrap().0] += 1.0;
        }
        for (count, share) in counts.iter().zip([3.0, 6.0, 6.0, 9.0, 9.0, 9.0]) {
            let expected = DRAWS as f64 / share;
            assert!((count - expected).abs() < 4.0 * expected.sqrt(), "{counts:?}");
        }
    }
}
