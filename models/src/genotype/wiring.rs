//! Other wirings of the same operations: the widest, the deepest, and random ones (Shu et al., ICLR 2020, section 3).

use super::{Cell, Edge, Form, Genotype};
use crate::{Error, Primitive, Result, Rng};

/// Largest number of edges whose orders are all compared. The orders of more edges are drawn.
const LISTED: usize = 7;
/// Number of orders that are drawn.
const DRAWN: usize = 5000;

/// Wiring of the operations of a genotype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Widest and shallowest.
    Widest,
    /// Narrowest and deepest.
    Deepest,
    /// Random, by a seed.
    Random(u64),
}

impl Genotype {
    /// Returns the genotype with another wiring of the same operations. In cells of DARTS every operation stays at its node and
    /// gets another input. In cells of NAS-Bench-201 the operations are exchanged between the edges, so that as many as before
    /// reach the output.
    ///
    /// # Errors
    /// [`Error::Value`] for a genotype without cells.
    pub fn rewired(&self, wiring: Wiring) -> Result<Genotype> {
        let seeded = |name: &str| match wiring {
            Wiring::Random(seed) => Rng::new(seed, &format!("wiring.{name}")),
            Wiring::Widest | Wiring::Deepest => Rng::new(0, name),
        };
        let rewired = match &self.form {
            Form::Pair { normal, reduce } => Genotype::pair(
                pair(normal, wiring, &mut seeded("normal"))?,
                pair(reduce, wiring, &mut seeded("reduction"))?,
            ),
            Form::Single(cell) => Genotype::single(single(cell, wiring, &mut seeded("cell"))?),
            Form::Picks(_) => {
                let (what, expected) = ("genotype".into(), "one of cells, whose edges can be rewired".into());
                return Err(Error::Value { what, found: self.to_string(), expected });
            }
        };
        Ok(match self.space() {
            Some(space) => rewired.of(space),
            None => rewired,
        })
    }
}

/// Returns a cell of DARTS whose nodes have other inputs.
fn pair(cell: &Cell, wiring: Wiring, rng: &mut Rng) -> Result<Cell> {
    let mut edges = Vec::new();
    for (node, own) in cell.nodes().enumerate() {
        let state = cell.inputs() + node;
        let mut from: Vec<usize> = (0..state).collect();
        match wiring {
            Wiring::Widest => {}
            Wiring::Deepest => from.reverse(),
            Wiring::Random(_) => rng.shuffle(&mut from),
        }
        edges.extend(own.iter().zip(from).map(|(edge, from)| Edge { from, ..*edge }));
    }
    // Where the output has only nodes that no other reads, as in AmoebaNet, it has those of the new wiring.
    let all = cell.inputs()..cell.inputs() + cell.nodes().count();
    let unread = |state: &usize| edges.iter().all(|edge| edge.from != *state);
    let whole = cell.concat().len() == all.len();
    let concat = all.filter(|state| whole || unread(state)).collect();
    Cell::pairs(edges, concat)
}

/// Returns a cell of NAS-Bench-201 whose operations are on other edges.
fn single(cell: &Cell, wiring: Wiring, rng: &mut Rng) -> Result<Cell> {
    let primitives: Vec<Primitive> = cell.edges().iter().map(|edge| edge.primitive).collect();
    let with = |order: &[Primitive]| {
        let edges = cell.edges().iter().zip(order);
        Cell::complete(edges.map(|(edge, primitive)| Edge { primitive: *primitive, ..*edge }).collect())
    };
    let orders = if primitives.len() <= LISTED { orders(&primitives) } else { drawn(&primitives, rng) };
    let cells = orders.iter().map(|order| with(order)).collect::<Result<Vec<_>>>()?;
    let live = |cell: &Cell| cell.live_edges().into_iter().filter(|live| *live).count();
    let kept: Vec<Cell> = cells.into_iter().filter(|other| live(other) == live(cell)).collect();
    let shape = |cell: &Cell| {
        let topology = cell.topology();
        (topology.width, topology.depth)
    };
    let wider = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1));
    let found = match wiring {
        Wiring::Random(_) => kept.get(rng.below(kept.len().max(1))),
        Wiring::Widest => kept.iter().max_by(|a, b| wider(&shape(a), &shape(b))),
        Wiring::Deepest => kept.iter().max_by(|a, b| wider(&shape(b), &shape(a))),
    };
    Ok(found.unwrap_or(cell).clone())
}

/// Returns all different orders of the operations.
fn orders(primitives: &[Primitive]) -> Vec<Vec<Primitive>> {
    if primitives.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (i, first) in primitives.iter().enumerate() {
        if primitives[..i].contains(first) {
            continue;
        }
        let rest: Vec<Primitive> = primitives[..i].iter().chain(&primitives[i + 1..]).copied().collect();
        all.extend(orders(&rest).into_iter().map(|rest| [vec![*first], rest].concat()));
    }
    all
}

/// Returns random orders of the operations, and the given one.
fn drawn(primitives: &[Primitive], rng: &mut Rng) -> Vec<Vec<Primitive>> {
    let mut all = vec![primitives.to_vec()];
    for _ in 0..DRAWN {
        let mut order = primitives.to_vec();
        rng.shuffle(&mut order);
        all.push(order);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{self, Space};

    fn shape(genotype: &Genotype, kind: &str) -> (f64, usize) {
        let topology = genotype.cell(kind).unwrap().topology();
        (topology.width, topology.depth)
    }

    #[test]
    fn cells_of_darts_reach_both_corners() {
        let genotype = Genotype::named("DARTS_V2").unwrap();
        let kinds = ["normal", "reduce"];
        let operations = |genotype: &Genotype| -> Vec<Primitive> {
            genotype.cells().flat_map(|(_, cell)| cell.edges().iter().map(|edge| edge.primitive)).collect()
        };
        let rewired = |wiring| genotype.rewired(wiring).unwrap();
        for kind in kinds {
            assert_eq!(shape(&rewired(Wiring::Widest), kind), (4.0, 2));
            // The first node can only read the inputs, and the second node has a second edge from one of them.
            assert_eq!(shape(&rewired(Wiring::Deepest), kind), (1.5, 5));
        }
        let amoeba = Genotype::named("AmoebaNet").unwrap().rewired(Wiring::Widest).unwrap();
        assert_eq!(shape(&amoeba, "normal"), (5.0, 2));
        let mut seen = Vec::new();
        for wiring in [Wiring::Widest, Wiring::Deepest].into_iter().chain((1..6).map(Wiring::Random)) {
            let other = rewired(wiring);
            assert_eq!(operations(&other), operations(&genotype));
            assert!(space::DARTS.contains(&other), "{other}");
            assert!(!seen.contains(&other));
            seen.push(other);
        }
        assert_eq!(rewired(Wiring::Random(3)), rewired(Wiring::Random(3)));
    }

    #[test]
    fn cells_of_nasbench201_exchange_their_operations() {
        let arch = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|nor_conv_3x3~1|skip_connect~2|";
        let genotype = Genotype::parse(arch, "arch").unwrap();
        let live = |genotype: &Genotype| genotype.live().convolutions()[0];
        let [widest, deepest] =
            [Wiring::Widest, Wiring::Deepest].map(|wiring| genotype.rewired(wiring).unwrap());
        let (wide, deep) = (shape(&widest, "normal"), shape(&deepest, "normal"));
        // Without the edge 1-2 the cell is widest, without the edge 0-2 narrowest.
        assert_eq!((wide, deep), ((1.0 + 1.0 + 1.0 / 3.0, 2), (1.0 + 1.0 / 3.0, 3)));
        for other in [&widest, &deepest, &genotype.rewired(Wiring::Random(1)).unwrap()] {
            let count = |genotype: &Genotype| {
                genotype.cell("normal").unwrap().live_edges().iter().filter(|l| **l).count()
            };
            assert_eq!((count(other), live(other)), (count(&genotype), live(&genotype)), "{other}");
            assert!(space::NASBENCH201.contains(other));
        }
        // All orders of five operations, two of them equal, and of seven edges at most.
        let five = &space::NASBENCH201.primitives[..4];
        assert_eq!(orders(&[five, &five[..1]].concat()).len(), 60);
    }
}
