//! Spaces of cells: operations on the edges between the states of a cell, which a network repeats.

mod supernet;

use core::ops::Range;

use super::{Choice, ChoiceGraph, Space, SupernetSize};
use crate::assemble::cells::{CHAIN, CellStack, PAIRS, network};
use crate::assemble::{NetworkConfig, Trainable, is_reduction};
use crate::genotype::{Cell, Edge, Form};
use crate::{Error, Genotype, Primitive, Result, Rng};

/// Search space of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellSpace {
    /// Name of the space.
    pub name: &'static str,
    /// Description; a noun phrase.
    pub doc: &'static str,
    /// Candidates of every edge, in the order of their logits.
    pub primitives: &'static [Primitive],
    /// Number of nodes of a cell.
    pub nodes: usize,
    /// Form of the cells.
    pub cells: CellForm,
}

/// Form of the cells of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellForm {
    /// Two cells of DARTS. A node keeps its two best edges, and `none` is not derived.
    Pair,
    /// One cell of NAS-Bench-201. It keeps all edges, and its pools have no BatchNorm in the supernet.
    Single,
}

/// Returns the label of a state: the outputs of the previous cells, then the nodes.
pub fn state_label(inputs: usize, state: usize) -> String {
    match inputs.checked_sub(state + 1) {
        Some(before) => format!("c k\u{2212}{}", before + 1),
        None => (state - inputs).to_string(),
    }
}

impl CellSpace {
    fn stack(&self) -> &'static CellStack {
        match self.cells {
            CellForm::Pair => &PAIRS,
            CellForm::Single => &CHAIN,
        }
    }

    /// Number of input states of a cell.
    pub fn inputs(&self) -> usize {
        self.stack().inputs
    }

    /// Whether a reduction cell is searched, too.
    pub fn has_reduction(&self) -> bool {
        self.cells == CellForm::Pair
    }

    /// Returns all edges `(from state, to state)` of the supernet, ordered by node.
    pub fn edges(&self) -> Vec<(usize, usize)> {
        self.states().flat_map(|to| (0..to).map(move |from| (from, to))).collect()
    }

    /// Returns the range of the nodes' states.
    pub fn states(&self) -> Range<usize> {
        self.inputs()..self.inputs() + self.nodes
    }

    /// Returns the states of a cell's output.
    pub fn concat(&self) -> Vec<usize> {
        match self.cells {
            CellForm::Pair => self.states().collect(),
            CellForm::Single => self.states().next_back().into_iter().collect(),
        }
    }

    /// Number of edges of a derived cell into its node `node`.
    fn edges_into(&self, node: usize) -> usize {
        match self.cells {
            CellForm::Pair => 2,
            CellForm::Single => node + self.inputs(),
        }
    }

    /// Iterates over the operations that a derived cell may have on an edge.
    fn operations(&self) -> impl Iterator<Item = Primitive> {
        let none = self.cells == CellForm::Single;
        self.primitives.iter().copied().filter(move |p| none || *p != Primitive::None)
    }

    fn cell(&self, edges: Vec<Edge>) -> Result<Cell> {
        match self.cells {
            CellForm::Pair => Cell::pairs(edges, self.concat()),
            CellForm::Single => Cell::complete(edges),
        }
    }

    /// Returns a genotype from the edges of each of its cells.
    fn genotype(&'static self, mut edges: impl FnMut(usize) -> Vec<Edge>) -> Result<Genotype> {
        let normal = self.cell(edges(0))?;
        Ok(match self.cells {
            CellForm::Pair => Genotype::pair(normal, self.cell(edges(1))?).of(self),
            CellForm::Single => Genotype::single(normal).of(self),
        })
    }

    fn sample_cell(&self, rng: &mut Rng) -> Vec<Edge> {
        let operations: Vec<Primitive> = self.operations().collect();
        let mut edges = Vec::new();
        for (node, state) in self.states().enumerate() {
            let mut from: Vec<usize> = (0..state).collect();
            if self.cells == CellForm::Pair {
                rng.shuffle(&mut from);
            }
            edges.extend(
                from[..self.edges_into(node)]
                    .iter()
                    .map(|&from| Edge { primitive: operations[rng.below(operations.len())], from }),
            );
        }
        edges
    }

    /// Derives a cell (DARTS, section 2.4) from the weights of its edges: an edge has its best operation, and a node keeps
    /// its strongest edges. On ties the lower index wins.
    fn derive_cell(&self, weights: &[Vec<f32>]) -> Vec<Edge> {
        let (mut kept, places) = (Vec::new(), self.edges());
        for (index, node) in self.states().enumerate() {
            let into = places.iter().zip(weights).filter(|((_, to), _)| *to == node);
            let mut ranked: Vec<(f32, Edge)> = into
                .map(|(&(from, _), weights)| {
                    let candidates = self.primitives.iter().copied().zip(weights);
                    let allowed = candidates.filter(|(p, _)| self.operations().any(|allowed| allowed == *p));
                    let first = (f32::NEG_INFINITY, Edge { primitive: Primitive::None, from });
                    allowed.fold(
                        first,
                        |best, (primitive, p)| {
                            if *p > best.0 { (*p, Edge { primitive, from }) } else { best }
                        },
                    )
                })
                .collect();
            if self.cells == CellForm::Pair {
                ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
            }
            kept.extend(ranked.into_iter().take(self.edges_into(index)).map(|(_, edge)| edge));
        }
        kept
    }

    fn contains_cell(&self, cell: &Cell) -> bool {
        let known = |e: &Edge| self.operations().any(|p| p == e.primitive);
        let distinct =
            |node: &[Edge]| node.iter().enumerate().all(|(i, e)| node[..i].iter().all(|o| o.from != e.from));
        cell.inputs() == self.inputs()
            && cell.nodes().count() == self.nodes
            && cell.concat() == self.concat()
            && cell.edges().iter().all(known)
            && cell.nodes().all(distinct)
    }

    /// Changes an edge of a cell: one of its nodes and one of that node's edges are drawn uniformly. The edge gets another
    /// operation. If nodes choose their inputs, half of the mutations change the input instead.
    fn mutate_cell(&self, cell: &Cell, rng: &mut Rng) -> Result<Cell> {
        let node = rng.below(self.nodes);
        let first: usize = (0..node).map(|n| self.edges_into(n)).sum();
        let count = self.edges_into(node);
        let at = first + rng.below(count);
        let mut edges = cell.edges().to_vec();
        let taken = |from: usize| edges[first..first + count].iter().any(|e| e.from == from);
        let free: Vec<usize> = (0..node + self.inputs()).filter(|from| !taken(*from)).collect();
        if self.cells == CellForm::Pair && !free.is_empty() && rng.below(2) == 1 {
            edges[at].from = free[rng.below(free.len())];
        } else {
            let others: Vec<Primitive> = self.operations().filter(|p| *p != edges[at].primitive).collect();
            edges[at].primitive = others[rng.below(others.len())];
        }
        self.cell(edges)
    }

    fn foreign(&self, genotype: &Genotype) -> Error {
        Error::Value {
            what: "genotype".into(),
            found: genotype.to_string(),
            expected: format!("one of the space {}", self.name),
        }
    }
}

impl Space for CellSpace {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    /// Returns a choice for every edge of the normal cell, then of the reduction cell.
    fn choices(&self) -> Vec<Choice> {
        let candidates: Vec<String> = self.primitives.iter().map(|p| p.name().into()).collect();
        let label = |state| state_label(self.inputs(), state);
        let groups = ["normal", "reduction"].into_iter().take(1 + usize::from(self.has_reduction()));
        let edges = groups.flat_map(|group| self.edges().into_iter().map(move |edge| (group, edge)));
        edges
            .map(|(group, (from, to))| Choice {
                group,
                name: format!("{} \u{2192} {}", label(from), label(to)),
                node: to - self.inputs(),
                candidates: candidates.clone(),
            })
            .collect()
    }

    fn kept_choices(&self) -> Option<usize> {
        (self.cells == CellForm::Pair).then_some(2)
    }

    fn sites(&self, layers: usize) -> Vec<usize> {
        let edges = self.edges().len();
        let searched = (0..layers).map(|layer| is_reduction(layer, layers));
        let searched = searched.filter(|reduces| !reduces || self.has_reduction());
        searched.flat_map(|reduces| (0..edges).map(move |edge| edge + edges * usize::from(reduces))).collect()
    }

    fn supernet(&self, size: &SupernetSize) -> Result<ChoiceGraph> {
        supernet::emit(self, size)
    }

    fn network(&self, genotype: &Genotype, config: &NetworkConfig, auxiliary: bool) -> Result<Trainable> {
        network(genotype, config, auxiliary)
    }

    fn derive(&'static self, weights: &[Vec<f32>]) -> Result<Genotype> {
        let edges = self.edges().len();
        let expected = edges * (1 + usize::from(self.has_reduction()));
        if weights.len() != expected || weights.iter().any(|row| row.len() != self.primitives.len()) {
            let found = format!("{} rows", weights.len());
            let expected = format!("{expected} of {}", self.primitives.len());
            return Err(Error::Value { what: "weights of the candidates".into(), found, expected });
        }
        self.genotype(|kind| self.derive_cell(&weights[kind * edges..][..edges]))
    }

    fn origins(&self, genotype: &Genotype, network: &NetworkConfig) -> Result<Vec<(String, String)>> {
        let mut origins = Vec::new();
        for layer in 0..network.layers {
            let cell = genotype.cell(if network.is_reduction(layer) { "reduce" } else { "normal" });
            let (mut first, mut op) = (0, 0);
            for (node, edges) in cell.into_iter().flat_map(|cell| cell.nodes().enumerate()) {
                for edge in edges {
                    let candidate =
                        self.primitives.iter().position(|p| *p == edge.primitive).ok_or_else(|| {
                            Error::Value {
                                what: "operation".into(),
                                found: edge.primitive.name().into(),
                                expected: format!("a candidate of the space {}", self.name),
                            }
                        })?;
                    origins.push((
                        format!("cells.{layer}.ops.{op}"),
                        format!("cells.{layer}.edges.{}.{candidate}", first + edge.from),
                    ));
                    op += 1;
                }
                first += self.inputs() + node;
            }
        }
        Ok(origins)
    }

    fn contains(&self, genotype: &Genotype) -> bool {
        let count = 1 + usize::from(self.has_reduction());
        genotype.cells().count() == count && genotype.cells().all(|(_, cell)| self.contains_cell(cell))
    }

    /// Returns a uniformly drawn genotype: distinct inputs for each node, and any allowed operation on each edge.
    fn sample(&'static self, rng: &mut Rng) -> Result<Genotype> {
        self.genotype(|_| self.sample_cell(rng))
    }

    /// Returns a mutation of a uniformly drawn cell, as in regularised evolution.
    fn mutate(&'static self, genotype: &Genotype, rng: &mut Rng) -> Result<Genotype> {
        match &genotype.form {
            Form::Pair { normal, reduce } if self.cells == CellForm::Pair => Ok(match rng.below(2) {
                1 => Genotype::pair(normal.clone(), self.mutate_cell(reduce, rng)?).of(self),
                _ => Genotype::pair(self.mutate_cell(normal, rng)?, reduce.clone()).of(self),
            }),
            Form::Single(cell) if self.cells == CellForm::Single => {
                Ok(Genotype::single(self.mutate_cell(cell, rng)?).of(self))
            }
            _ => Err(self.foreign(genotype)),
        }
    }

    fn count(&self) -> Option<usize> {
        let edges = u32::try_from(self.edges().len()).ok()?;
        (self.cells == CellForm::Single).then(|| self.primitives.len().checked_pow(edges)).flatten()
    }

    fn nth(&'static self, mut index: usize) -> Result<Genotype> {
        if self.count().is_none_or(|count| index >= count) {
            let (found, expected) =
                (index.to_string(), format!("less than {}", self.count().unwrap_or_default()));
            return Err(Error::Value {
                what: format!("number of a genotype of {}", self.name),
                found,
                expected,
            });
        }
        let operations: Vec<Primitive> = self.operations().collect();
        self.genotype(|_| {
            let edge = |(from, _)| {
                let primitive = operations[index % operations.len()];
                index /= operations.len();
                Edge { primitive, from }
            };
            self.edges().into_iter().map(edge).collect()
        })
    }

    fn derives_none(&self) -> bool {
        self.operations().any(|primitive| primitive == Primitive::None)
    }

    fn has_partial_channels(&self) -> bool {
        self.cells == CellForm::Pair
    }

    fn cells(&self) -> Option<&CellSpace> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DARTS, NASBENCH201};
    use super::*;

    #[test]
    fn edges_are_in_node_order() {
        let edges = DARTS.edges();
        assert_eq!(edges.len(), 14);
        assert_eq!(edges[..5], [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]);
        assert_eq!(NASBENCH201.edges(), [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]);
    }

    #[test]
    fn none_is_never_derived_by_darts() {
        let mut weights = vec![vec![0.0; 8]; 28];
        weights[..14].iter_mut().for_each(|row| row[0] = 5.0);
        weights[4][5] = 6.0; // second node, from the first one
        let genotype = DARTS.derive(&weights).unwrap();
        assert!(DARTS.contains(&genotype));
        let second = genotype.cell("normal").unwrap().edges()[2..4].to_vec();
        assert_eq!(second[0], Edge { primitive: Primitive::SepConv5x5, from: 2 });
        // All other choices are tied: the lowest edge and the first operation win.
        assert_eq!(second[1], Edge { primitive: Primitive::MaxPool3x3, from: 0 });
        assert!(DARTS.derive(&weights[1..]).is_err());
    }

    /// One third for node 1's edge, a sixth for each of node 2's, a ninth for each of node 3's.
    #[test]
    fn a_mutation_picks_the_node_first() {
        let mut rng = Rng::new(1, "mutate");
        let parent = NASBENCH201.sample(&mut rng).unwrap();
        let edges = |genotype: &Genotype| genotype.cell("normal").unwrap().edges().to_vec();
        let mut counts = [0.0; 6];
        const DRAWS: usize = 18_000;
        for _ in 0..DRAWS {
            let child = NASBENCH201.mutate(&parent, &mut rng).unwrap();
            let (before, after) = (edges(&parent), edges(&child));
            counts[before.iter().zip(&after).position(|(a, b)| a != b).unwrap()] += 1.0;
        }
        for (count, share) in counts.iter().zip([3.0, 6.0, 6.0, 9.0, 9.0, 9.0]) {
            let expected = DRAWS as f64 / share;
            assert!((count - expected).abs() < 4.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn a_genotype_of_another_form_is_refused() {
        let genotype = Genotype::named("DARTS_V2").unwrap();
        let error = NASBENCH201.mutate(&genotype, &mut Rng::new(0, "mutate")).unwrap_err().to_string();
        assert!(error.contains("expected one of the space nasbench201"), "{error}");
    }
}
