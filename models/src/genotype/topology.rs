//! Shape of a cell's wiring: how wide and how deep it is, and what its paths are (Shu et al., ICLR 2020).

use serde::Serialize;

use super::{Cell, Edge};

/// Wiring of a cell. Edges that do not reach the output, such as those with `none`, do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Topology {
    /// Nodes that read the inputs of the cell, in channels of a node: a node counts for the part of its edges that come from
    /// inputs (section 3.2).
    pub width: f64,
    /// Connections on the longest path from an input to the output (section 3.2). A concatenation of nodes is a connection.
    pub depth: usize,
    /// Number of paths from an input to the output.
    pub paths: u64,
    /// Mean number of connections on a path.
    pub mean_path: f64,
    /// Fewest convolutions on a path.
    pub fewest_convolutions: usize,
    /// Most convolutions on a path.
    pub most_convolutions: usize,
}

/// Paths from the inputs of a cell to one of its states.
#[derive(Clone, Copy)]
struct Paths {
    count: u64,
    /// Sum of their connections.
    connections: u64,
    longest: usize,
    fewest: usize,
    most: usize,
}

impl Paths {
    const NONE: Paths = Paths { count: 0, connections: 0, longest: 0, fewest: usize::MAX, most: 0 };
    const START: Paths = Paths { count: 1, connections: 0, longest: 0, fewest: 0, most: 0 };

    /// Returns the paths with a further connection that has `convolutions`.
    fn extended(self, convolutions: usize) -> Paths {
        match self.count {
            0 => Paths::NONE,
            count => Paths {
                count,
                connections: self.connections + count,
                longest: self.longest + 1,
                fewest: self.fewest + convolutions,
                most: self.most + convolutions,
            },
        }
    }

    fn and(self, other: Paths) -> Paths {
        Paths {
            count: self.count + other.count,
            connections: self.connections + other.connections,
            longest: self.longest.max(other.longest),
            fewest: self.fewest.min(other.fewest),
            most: self.most.max(other.most),
        }
    }
}

impl Cell {
    /// Returns the shape of the wiring; zeros for a cell whose output does not depend on an input.
    pub fn topology(&self) -> Topology {
        let (mut states, mut width) = (vec![Paths::START; self.inputs()], 0.0);
        let mut live = self.live_edges().into_iter();
        for edges in self.nodes() {
            let edges: Vec<&Edge> =
                edges.iter().zip(live.by_ref()).filter(|(_, live)| *live).map(|(e, _)| e).collect();
            let inputs = edges.iter().filter(|edge| edge.from < self.inputs()).count();
            width += inputs as f64 / edges.len().max(1) as f64;
            let into =
                edges.iter().map(|edge| states[edge.from].extended(edge.primitive.is_convolution().into()));
            states.push(into.fold(Paths::NONE, Paths::and));
        }
        let ends = self.concat().iter().map(|state| states[*state]);
        let all = match self.concat() {
            // The node is the output itself.
            [only] => states[*only],
            _ => ends.map(|paths| paths.extended(0)).fold(Paths::NONE, Paths::and),
        };
        if all.count == 0 {
            return Topology::default();
        }
        Topology {
            width,
            depth: all.longest,
            paths: all.count,
            mean_path: all.connections as f64 / all.count as f64,
            fewest_convolutions: all.fewest,
            most_convolutions: all.most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Genotype, Primitive};

    fn shape(cell: &Cell) -> (f64, usize) {
        let Topology { width, depth, .. } = cell.topology();
        (width, depth)
    }

    /// Figure 1 of the paper, normal cells.
    #[test]
    fn published_cells_have_the_published_width_and_depth() {
        for (name, expected) in
            [("NASNet", (5.0, 2)), ("DARTS_V2", (3.5, 3)), ("DARTS_V1", (3.5, 3)), ("AmoebaNet", (4.0, 4))]
        {
            let genotype = Genotype::named(name).unwrap();
            assert_eq!(shape(genotype.cell("normal").unwrap()), expected, "{name}");
        }
    }

    /// Sources of the paper's random cells, seeds 1 to 10, with the widths and depths that its generator gives.
    #[test]
    fn random_wirings_have_the_widths_and_depths_of_the_released_generator() {
        for (sources, expected) in [
            ([1, 0, 1, 0, 1, 3, 4, 2], (2.5, 4)),
            ([0, 1, 2, 0, 1, 3, 2, 4], (2.0, 5)),
            ([0, 1, 0, 0, 1, 2, 1, 2], (3.0, 3)),
            ([0, 1, 1, 0, 1, 0, 1, 4], (3.5, 3)),
            ([1, 1, 2, 0, 0, 3, 3, 0], (2.5, 4)),
            ([0, 1, 2, 2, 2, 1, 1, 1], (2.5, 3)),
            ([1, 1, 0, 2, 1, 2, 0, 0], (3.0, 3)),
            ([1, 1, 1, 0, 3, 1, 4, 3], (2.5, 4)),
            ([0, 0, 2, 2, 1, 0, 0, 1], (3.0, 3)),
            ([1, 0, 0, 0, 1, 1, 2, 1], (3.5, 3)),
        ] {
            let edges = sources.map(|from| Edge { primitive: Primitive::SepConv3x3, from }).to_vec();
            assert_eq!(shape(&Cell::pairs(edges, vec![2, 3, 4, 5]).unwrap()), expected, "{sources:?}");
        }
    }

    #[test]
    fn a_chain_is_deepest_and_paths_are_counted() {
        let edge = |primitive, from| Edge { primitive, from };
        let chain: Vec<Edge> =
            [0, 1, 2, 2, 3, 3, 4, 4].into_iter().map(|from| edge(Primitive::SkipConnect, from)).collect();
        assert_eq!(shape(&Cell::pairs(chain, vec![2, 3, 4, 5]).unwrap()), (1.0, 5));
        let parse = |arch: &str| Genotype::parse(arch, "arch").unwrap().cell("normal").unwrap().topology();
        let found =
            parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|");
        // Paths 0-3, 0-2-3 and 0-1-2-3.
        assert_eq!((found.paths, found.depth, found.mean_path), (3, 3, 2.0));
        assert_eq!((found.fewest_convolutions, found.most_convolutions), (0, 3));
        assert!((found.width - 2.0).abs() < 1e-12);
        assert_eq!(parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"), Topology::default());
    }
}
