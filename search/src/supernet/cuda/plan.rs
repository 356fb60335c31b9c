//! What a mixture makes of the edges that begin at one state: which maps there are, and which of them each node adds up.
//!
//! Maps of a state come in this order: separable convolutions half-way, dilated ones, strided skips, separable ones whole, pools.

use crate::resident::{DeviceTensors, Packing};
use crate::supernet::Row;

/// The convolutions of an edge. The first two are separable, done twice.
pub(super) use milenas_models::kernels::cuda::depthwise::KINDS as CONVOLUTIONS;

/// How many of them are separable.
pub(super) const SEPARABLE: usize = 2;

/// Columns of a mixture: the pools, the skip, the first convolution.
const POOLS: [usize; 2] = [1, 2];
const SKIP: usize = 3;
const CONVOLUTION: usize = 4;

/// Numbers of a convolution's parameters and BatchNorm.
#[derive(Clone, Copy)]
struct ConvTensors {
    depthwise: usize,
    pointwise: usize,
    norm: usize,
}

/// An edge's numbers among the tensors.
pub(super) struct EdgeTensors {
    /// The row of a mixture.
    pub(super) row: usize,
    /// The node, counted from 0.
    pub(super) node: usize,
    first: [ConvTensors; CONVOLUTIONS.len()],
    second: [ConvTensors; SEPARABLE],
    pools: [usize; POOLS.len()],
    /// Of a strided edge: the two weights and the norm.
    skip: Option<([usize; 2], usize)>,
}

impl EdgeTensors {
    pub(super) fn new(
        tensors: &mut DeviceTensors,
        prefix: &str,
        row: usize,
        node: usize,
        channels: usize,
        strided: bool,
    ) -> EdgeTensors {
        let mut convolution = |k: usize, first: usize, kernel: usize| {
            let name = |i: usize| format!("{prefix}.{row}.{k}.{}", first + i);
            ConvTensors {
                depthwise: tensors.parameter(format!("{}.weight", name(1)), &[channels, 1, kernel, kernel]),
                pointwise: tensors.parameter(format!("{}.weight", name(2)), &[channels, channels, 1, 1]),
                norm: tensors.norm(name(3), channels),
            }
        };
        let first = std::array::from_fn(|i| convolution(CONVOLUTION + i, 0, CONVOLUTIONS[i].0));
        let second = std::array::from_fn(|i| convolution(CONVOLUTION + i, 4, CONVOLUTIONS[i].0));
        let pools = POOLS.map(|k| tensors.norm(format!("{prefix}.{row}.{k}.1"), channels));
        let skip = strided.then(|| halves(tensors, &format!("{prefix}.{row}.{SKIP}"), channels, channels));
        EdgeTensors { row, node, first, second, pools, skip }
    }
}

/// The two weights and the norm of a convolution that halves the image.
pub(super) fn halves(
    tensors: &mut DeviceTensors,
    prefix: &str,
    from: usize,
    to: usize,
) -> ([usize; 2], usize) {
    let mut weight =
        |name: &str, to: usize| tensors.parameter(format!("{prefix}.{name}.weight"), &[to, from, 1, 1]);
    let weights = [weight("even", to / 2), weight("odd", to - to / 2)];
    (weights, tensors.norm(format!("{prefix}.bn"), to))
}

/// A use of a map by a node.
pub(super) struct EdgeTerm {
    /// The map; -1 for the state itself.
    source: i32,
    /// Of the moments; the source but for pools in evaluation, where each edge has running statistics of its own.
    norm: i32,
    edge: usize,
    /// Row and column of the mixture.
    pub(super) row: usize,
    pub(super) column: usize,
}

/// Integers and floats that kernels look up, of a whole pass.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) ints: Vec<i32>,
    pub(super) floats: Vec<f32>,
}

impl Tables {
    fn put(&mut self, values: impl IntoIterator<Item = i32>) -> usize {
        let start = self.ints.len();
        self.ints.extend(values);
        start
    }
}

/// Where a state's tables begin.
pub(super) struct TableOffsets {
    pub(super) source: usize,
    pub(super) norm: usize,
    pub(super) target: usize,
    /// Of maps from the dilated ones on, then of the state itself: where its terms begin.
    pub(super) first: usize,
    pub(super) edge_first: usize,
    pub(super) edge_terms: usize,
    pub(super) edge_target: usize,
    /// Among the floats.
    pub(super) weight: usize,
}

/// Where a state's packed weights begin.
pub(super) struct Packed {
    pub(super) first: [usize; CONVOLUTIONS.len()],
    pub(super) first_pointwise: usize,
    pub(super) second: [usize; SEPARABLE],
    pub(super) second_pointwise: usize,
    /// Of even and of odd pixels.
    pub(super) skips: [usize; 2],
}

/// The edges from one state under one mixture.
pub(super) struct EdgePlan {
    /// How many edges have each convolution.
    pub(super) convolutions: [usize; CONVOLUTIONS.len()],
    /// How many have a strided skip.
    pub(super) skips: usize,
    /// Whether any has each pool.
    pub(super) pools: [bool; POOLS.len()],
    /// How many have the state itself.
    pub(super) identities: usize,
    pub(super) edges: usize,
    pub(super) terms: Vec<EdgeTerm>,
    pub(super) at: TableOffsets,
    pub(super) packed: Packed,
    /// Where the moments of the first map are; the others' follow.
    pub(super) moments: usize,
    /// How many moments there are of a channel.
    pub(super) normed: usize,
    /// Where the terms' part of the mixture's gradient is: `[term][channel]`.
    pub(super) reach: usize,
}

impl EdgePlan {
    pub(super) fn new(
        edges: &[EdgeTensors],
        rows: &[Row],
        tensors: &DeviceTensors,
        (packing, tables, reach): (&mut Packing, &mut Tables, &mut usize),
        (channels, pixels): (usize, usize),
        training: bool,
    ) -> EdgePlan {
        let active =
            |k: usize| -> Vec<usize> { (0..edges.len()).filter(|&e| rows[edges[e].row][k] != 0.0).collect() };
        let convolutions: [Vec<usize>; CONVOLUTIONS.len()] = std::array::from_fn(|i| active(CONVOLUTION + i));
        let pools = POOLS.map(active);
        let (skips, identities): (Vec<usize>, Vec<usize>) =
            active(SKIP).into_iter().partition(|&e| edges[e].skip.is_some());

        let pack = |packing: &mut Packing, edges_of: &[usize], id: &dyn Fn(&EdgeTensors) -> usize| {
            packing.put(tensors, edges_of.iter().map(|&e| id(&edges[e])))
        };
        let pointwise =
            |packing: &mut Packing, kinds: usize, of: &dyn Fn(&EdgeTensors, usize) -> ConvTensors| {
                let ids = convolutions[..kinds].iter().enumerate();
                let ids = ids.flat_map(|(i, active)| active.iter().map(move |&e| of(&edges[e], i).pointwise));
                packing.put(tensors, ids)
            };
        let packed = Packed {
            first: std::array::from_fn(|i| pack(packing, &convolutions[i], &|edge| edge.first[i].depthwise)),
            first_pointwise: pointwise(packing, CONVOLUTIONS.len(), &|edge, i| edge.first[i]),
            second: std::array::from_fn(|i| {
                pack(packing, &convolutions[i], &|edge| edge.second[i].depthwise)
            }),
            second_pointwise: pointwise(packing, SEPARABLE, &|edge, i| edge.second[i]),
            skips: std::array::from_fn(|i| {
                pack(packing, &skips, &|edge| edge.skip.map_or(0, |(ids, _)| ids[i]))
            }),
        };

        // Each map's statistics, and its terms.
        let (mut norms, mut terms, mut first) = (Vec::new(), Vec::<EdgeTerm>::new(), Vec::new());
        let term = |source: usize, norm: usize, edge: usize, column: usize| EdgeTerm {
            source: source as i32,
            norm: norm as i32,
            edge,
            row: edges[edge].row,
            column,
        };
        let mut map = 0;
        for (i, active) in convolutions.iter().enumerate() {
            for &edge in active {
                norms.push((edges[edge].first[i].norm, map));
                if i >= SEPARABLE {
                    first.push(terms.len() as i32);
                    terms.push(term(map, map, edge, CONVOLUTION + i));
                }
                map += 1;
            }
        }
        for &edge in &skips {
            norms.extend(edges[edge].skip.map(|(_, norm)| (norm, map)));
            first.push(terms.len() as i32);
            terms.push(term(map, map, edge, SKIP));
            map += 1;
        }
        for (i, active) in convolutions[..SEPARABLE].iter().enumerate() {
            for &edge in active {
                norms.push((edges[edge].second[i].norm, map));
                first.push(terms.len() as i32);
                terms.push(term(map, map, edge, CONVOLUTION + i));
                map += 1;
            }
        }
        let mut norm = map;
        for (i, active) in pools.iter().enumerate().filter(|(_, active)| !active.is_empty()) {
            first.push(terms.len() as i32);
            for &edge in active {
                let moments = if training { map } else { norm };
                norms.push((edges[edge].pools[i], moments));
                terms.push(term(map, moments, edge, POOLS[i]));
                norm += 1;
            }
            map += 1;
        }
        first.push(terms.len() as i32);
        for &edge in &identities {
            terms.push(EdgeTerm { source: -1, norm: -1, ..term(0, 0, edge, SKIP) });
        }
        first.push(terms.len() as i32);

        let normed = map.max(norm);
        let moments = packing.room(normed * channels);
        norms.iter().for_each(|&(id, map)| packing.norm(id, moments + map * channels, pixels));
        let of_edge = |edge: usize| terms.iter().enumerate().filter(move |(_, term)| term.edge == edge);
        let counts = (0..edges.len()).map(|edge| of_edge(edge).count() as i32);
        let mut ends = 0;
        let at = TableOffsets {
            source: tables.put(terms.iter().map(|term| term.source)),
            norm: tables.put(terms.iter().map(|term| term.norm)),
            target: tables.put(terms.iter().map(|term| edges[term.edge].node as i32)),
            first: tables.put(first),
            edge_first: tables.put(std::iter::once(0).chain(counts.map(|count| {
                ends += count;
                ends
            }))),
            edge_terms: tables.put((0..edges.len()).flat_map(|edge| of_edge(edge).map(|(i, _)| i as i32))),
            edge_target: tables.put(edges.iter().map(|edge| edge.node as i32)),
            weight: tables.floats.len(),
        };
        tables.floats.extend(terms.iter().map(|term| rows[term.row][term.column]));
        let start = *reach;
        *reach += terms.len() * channels;
        EdgePlan {
            convolutions: convolutions.map(|active| active.len()),
            skips: skips.len(),
            pools: pools.map(|active| !active.is_empty()),
            identities: identities.len(),
            edges: edges.len(),
            terms,
            at,
            packed,
            moments,
            normed,
            reach: start,
        }
    }

    /// Separable convolutions: as many half-way as whole.
    pub(super) fn separable(&self) -> usize {
        self.convolutions[..SEPARABLE].iter().sum()
    }

    /// Convolutions of the state itself.
    pub(super) fn firsts(&self) -> usize {
        self.convolutions.iter().sum()
    }

    /// Where the whole separable convolutions begin among the maps.
    pub(super) fn seconds(&self) -> usize {
        self.firsts() + self.skips
    }

    /// Where the pools begin.
    pub(super) fn first_pool(&self) -> usize {
        self.seconds() + self.separable()
    }

    pub(super) fn maps(&self) -> usize {
        self.first_pool() + self.pools.iter().filter(|active| **active).count()
    }
}
