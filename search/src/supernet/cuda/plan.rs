//! Layout of the edges from one state under a mixture: the feature maps, and the terms of each node.
//!
//! The feature maps of a state have this order: first parts of separable convolutions, dilated convolutions,
//! strided skips, whole separable convolutions, pools.

use crate::resident::{DeviceTensors, Packing};
use crate::supernet::wired::Row;

/// Kinds of convolution on an edge. The first two are separable, and applied twice.
pub(super) use milenas_models::kernels::cuda::depthwise::KINDS as CONVOLUTIONS;

/// Number of separable kinds.
pub(super) const SEPARABLE: usize = 2;

/// Columns of a mixture: the pools, the skip, the first convolution.
const POOLS: [usize; 2] = [1, 2];
const SKIP: usize = 3;
const CONVOLUTION: usize = 4;

/// Indices of a convolution's parameters and BatchNorm.
#[derive(Clone, Copy)]
struct ConvTensors {
    depthwise: usize,
    pointwise: usize,
    norm: usize,
}

/// Indices of an edge's tensors.
pub(super) struct EdgeTensors {
    /// Row of the mixture.
    pub(super) row: usize,
    /// Node, counted from 0.
    pub(super) node: usize,
    first: [ConvTensors; CONVOLUTIONS.len()],
    second: [ConvTensors; SEPARABLE],
    pools: [usize; POOLS.len()],
    /// Weights and BatchNorm of the skip on a strided edge.
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

/// Adds the two weights and the BatchNorm of a convolution that halves the image.
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

/// Term of a node: a feature map with its weight.
pub(super) struct EdgeTerm {
    /// Index of the feature map; -1 for the state itself.
    source: i32,
    /// Index of the BatchNorm statistics. It equals `source`, except for pools in evaluation: there each edge
    /// has its own.
    norm: i32,
    edge: usize,
    /// Row and column of the mixture.
    pub(super) row: usize,
    pub(super) column: usize,
}

/// Integers and floats that the kernels of a pass read.
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

/// Offsets of a state's tables.
pub(super) struct TableOffsets {
    pub(super) source: usize,
    pub(super) norm: usize,
    pub(super) target: usize,
    /// First term of each feature map from the dilated convolutions on, and of the state itself.
    pub(super) first: usize,
    pub(super) edge_first: usize,
    pub(super) edge_terms: usize,
    pub(super) edge_target: usize,
    /// Offset among the floats.
    pub(super) weight: usize,
}

/// Offsets of a state's packed weights.
pub(super) struct Packed {
    pub(super) first: [usize; CONVOLUTIONS.len()],
    pub(super) first_pointwise: usize,
    pub(super) second: [usize; SEPARABLE],
    pub(super) second_pointwise: usize,
    /// Offsets for even and for odd pixels.
    pub(super) skips: [usize; 2],
}

/// Layout of the edges from one state under one mixture.
pub(super) struct EdgePlan {
    /// Number of edges with each convolution.
    pub(super) convolutions: [usize; CONVOLUTIONS.len()],
    /// Number of edges with a strided skip.
    pub(super) skips: usize,
    /// Whether any edge has each pool.
    pub(super) pools: [bool; POOLS.len()],
    /// Number of edges with the state itself.
    pub(super) identities: usize,
    pub(super) edges: usize,
    pub(super) terms: Vec<EdgeTerm>,
    pub(super) at: TableOffsets,
    pub(super) packed: Packed,
    /// Offset of the statistics of the first feature map; the others follow.
    pub(super) moments: usize,
    /// Number of statistics per channel.
    pub(super) normed: usize,
    /// Offset of the terms' parts of the mixture's gradient, `[term][channel]`.
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

        // Statistics and terms of each feature map.
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

    /// Returns the number of separable convolutions. There are as many first parts as whole ones.
    pub(super) fn separable(&self) -> usize {
        self.convolutions[..SEPARABLE].iter().sum()
    }

    /// Returns the number of convolutions that read the state itself.
    pub(super) fn firsts(&self) -> usize {
        self.convolutions.iter().sum()
    }

    /// Returns the index of the first whole separable convolution among the feature maps.
    pub(super) fn seconds(&self) -> usize {
        self.firsts() + self.skips
    }

    /// Returns the index of the first pool among the feature maps.
    pub(super) fn first_pool(&self) -> usize {
        self.seconds() + self.separable()
    }

    /// Returns the number of feature maps.
    pub(super) fn maps(&self) -> usize {
        self.first_pool() + self.pools.iter().filter(|active| **active).count()
    }
}
