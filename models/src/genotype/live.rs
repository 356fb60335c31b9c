//! Edges of a cell that reach its output.

use super::{Cell, Edge, Form, Genotype};
use crate::Primitive;

impl Cell {
    /// Returns whether each edge lies on a path from an input of the cell to its output. An edge with `none` does not.
    pub fn live_edges(&self) -> Vec<bool> {
        let inputs = self.inputs();
        let mut signal = vec![true; inputs];
        for edges in self.nodes() {
            signal.push(edges.iter().any(|edge| edge.primitive != Primitive::None && signal[edge.from]));
        }
        let mut read = vec![false; signal.len()];
        self.concat().iter().for_each(|state| read[*state] = true);
        let nodes: Vec<&[Edge]> = self.nodes().collect();
        let mut live: Vec<Vec<bool>> = Vec::with_capacity(nodes.len());
        for (node, edges) in nodes.iter().enumerate().rev() {
            let reaches = read[inputs + node];
            let lives = |edge: &Edge| reaches && edge.primitive != Primitive::None && signal[edge.from];
            live.push(edges.iter().map(lives).collect());
            edges.iter().filter(|edge| lives(edge)).for_each(|edge| read[edge.from] = true);
        }
        live.into_iter().rev().flatten().collect()
    }

    /// Returns whether the output depends on an input.
    pub fn is_dead(&self) -> bool {
        !self.live_edges().contains(&true)
    }
}

impl Genotype {
    /// Returns whether the output of a cell does not depend on its input.
    pub fn is_dead(&self) -> bool {
        self.cells().any(|(_, cell)| cell.is_dead())
    }

    /// Returns the genotype with `none` on every edge that does not reach the output of its cell. Its network computes
    /// the same, at a cost without unused operations.
    pub fn live(&self) -> Genotype {
        let cell = |cell: &Cell| {
            let mut live = cell.clone();
            let edges = live.edges.iter_mut().zip(cell.live_edges());
            edges.filter(|(_, live)| !live).for_each(|(edge, _)| edge.primitive = Primitive::None);
            live
        };
        // The space is omitted, because it may not allow `none`.
        match &self.form {
            Form::Pair { normal, reduce } => Genotype::pair(cell(normal), cell(reduce)),
            Form::Single(single) => Genotype::single(cell(single)),
            Form::Picks(_) => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{self, Space};
    use crate::{NetworkConfig, Skeleton, assemble, cost};

    const SMALL: NetworkConfig = NetworkConfig {
        channels: 4,
        layers: 3,
        classes: 2,
        in_channels: 3,
        height: 8,
        width: 8,
        skeleton: Skeleton::Cifar,
    };

    fn parse(text: &str) -> Genotype {
        Genotype::parse(text, "test").unwrap()
    }

    #[test]
    fn edges_without_an_input_or_a_reader_become_none() {
        for (cell, live) in [
            // The convolution of node 1 is read by none alone.
            (
                "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|",
                "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|",
            ),
            // Node 1 has no input, so the convolution that reads it computes zeros.
            (
                "|none~0|+|skip_connect~0|nor_conv_3x3~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|",
                "|none~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|",
            ),
            (
                "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|",
                "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
            ),
        ] {
            assert_eq!(parse(cell).live(), parse(live), "{cell}");
            assert_eq!(parse(cell).is_dead(), !live.contains("_"), "{cell}");
        }
        let darts = Genotype::named("DARTS_V2").unwrap();
        assert_eq!(darts.live(), darts);
    }

    /// The network stays in its class, costs at most as much, and as much exactly if all its operations are used.
    #[test]
    fn live_networks_are_the_same_and_cost_less() {
        let mut rng = crate::Rng::new(1, "live");
        let mut cheaper = 0;
        for _ in 0..500 {
            let genotype = space::NASBENCH201.sample(&mut rng).unwrap();
            let live = genotype.live();
            assert_eq!(live.class(), genotype.class());
            assert_eq!(live.live(), live);
            let [before, after] = [&genotype, &live].map(|g| cost(&assemble(g, &SMALL).unwrap()));
            let unused = genotype.convolutions()[0] > live.convolutions()[0];
            assert_eq!(
                (before.macs > after.macs, before.params > after.params),
                (unused, unused),
                "{genotype}"
            );
            cheaper += usize::from(unused);
        }
        assert!(cheaper > 50, "{cheaper}");
    }
}
