//! State of a cell as the source of edges: results that its edges share (pooled feature maps, the padded ReLU
//! of its value), buffers for the backward pass, and the forward phases.
//!
//! Edges run in groups. A group is small enough that the results of one phase are still in the last-level cache
//! in the next phase.

use core::ops::Range;

use milenas_models::fused::norm::totals;
use milenas_models::fused::parameters::Id;
use milenas_models::fused::{self, Copies, Scratch, Statistics};
use milenas_models::kernels::cpu::elementwise::{PadRelu, ScaledMap, WeightedSum};
use milenas_models::kernels::cpu::norm::{NormMoments, Scaling};
use milenas_models::kernels::cpu::{MapSize, Pack, pool};
use rayon::prelude::*;

use super::context::CellContext;
use super::edge::{COLUMNS, DIL3, FusedEdge};
use crate::supernet::wired::CANDIDATES;

/// Number of packs that the feature maps of a group may fill: 16 MiB, a part of the last-level cache.
const GROUP: usize = (16 << 20) / size_of::<Pack>();

/// Columns of the pools in a mixture. The order is that of their feature maps in a state.
pub(super) const POOLS: [usize; 2] = [1, 2];

/// Largest number of sums of an edge in the backward pass: of the node's gradient, and of its products with the
/// feature maps that reach the node.
pub(super) const SUMS: usize = 1 + COLUMNS.len();

/// Source state and the edges from it.
pub(super) struct FusedState {
    /// Size of the state.
    pub(super) map: MapSize,
    /// Size of the nodes.
    pub(super) node: MapSize,
    pub(super) stride: usize,
    /// Number of images in a pack.
    pub(super) copies: Copies,
    /// Edges in the order of their nodes.
    pub(super) edges: Vec<FusedEdge>,
    /// Feature maps `[image][slot]` of the nodes' size: max pool, average pool, then each edge's, if they have
    /// a part in the mixture.
    pub(super) maps: Vec<Pack>,
    slots: usize,
    /// Sums `[image][slot][2][block]` of the feature maps and of their squares; in the backward pass, of
    /// gradients.
    pub(super) sums: Vec<Pack>,
    identity: Scaling,
}

/// Location of a state and its nodes among the states of an image.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct StateOffset {
    /// Number of packs of all states of an image.
    pub(super) image: usize,
    /// Number of packs before the state.
    pub(super) offset: usize,
    /// Number of packs before the first node.
    pub(super) nodes: usize,
}

impl StateOffset {
    /// Returns the location of a state among consecutive states of the given sizes.
    pub(super) fn among(maps: impl Iterator<Item = MapSize> + Clone, state: usize) -> StateOffset {
        let before = |state: usize| maps.clone().take(state).map(MapSize::len).sum();
        StateOffset { image: before(usize::MAX), offset: before(state), nodes: before(2) }
    }
}

impl From<StateOffset> for fused::BufferOffset {
    fn from(StateOffset { image, offset, .. }: StateOffset) -> Self {
        fused::BufferOffset { image, offset }
    }
}

impl FusedState {
    pub(super) fn new(stride: usize, packs: usize) -> FusedState {
        FusedState {
            map: MapSize { packs, ..MapSize::default() },
            node: MapSize { packs, ..MapSize::default() },
            stride,
            copies: Copies::default(),
            edges: Vec::new(),
            maps: Vec::new(),
            slots: 0,
            sums: Vec::new(),
            identity: Scaling::identity(packs),
        }
    }

    /// Allocates buffers for a batch, for all candidates with a part in the mixture of the cell.
    pub(super) fn activate(&mut self, mixture: &[[f32; CANDIDATES]], batch: usize) {
        let rows = self.edges.iter().map(|edge| &mixture[edge.row]);
        let pooled = rows.flat_map(|row| POOLS.map(|column| row[column])).any(|weight| weight != 0.0);
        self.slots = if pooled { POOLS.len() } else { 0 };
        for edge in &mut self.edges {
            self.slots = edge.activate(&mixture[edge.row], self.slots);
        }
        self.maps.resize(batch * self.maps_len(), Pack::ZERO);
        self.sums.resize(batch * self.sums_len(), Pack::ZERO);
    }

    /// Returns whether any edge has a pool.
    pub(super) fn pools(&self) -> bool {
        self.edges.iter().any(|edge| POOLS.into_iter().any(|column| edge.is_active(column)))
    }

    /// Returns the number of packs of the feature maps of one image.
    pub(super) fn maps_len(&self) -> usize {
        self.slots * self.node.len()
    }

    /// Returns the number of packs of the sums of one image.
    pub(super) fn sums_len(&self) -> usize {
        (self.slots * 2).max(self.edges.len() * SUMS) * self.node.packs
    }

    /// Sets the sizes for states of this size.
    pub(super) fn resize(&mut self, map: MapSize) {
        self.map = MapSize { packs: self.map.packs, ..map };
        self.node = self.map.strided(self.stride);
        self.edges.iter_mut().for_each(|edge| edge.resize(self.map));
    }

    /// Returns the edges in groups.
    pub(super) fn groups(&self, c: &CellContext<'_>) -> Vec<Range<usize>> {
        let most = self.edges.iter().map(FusedEdge::count).max().unwrap_or(0);
        let edge = most * self.node.len() * c.batch;
        let size = (GROUP / edge.max(1)).max(1);
        (0..self.edges.len()).step_by(size).map(|e| e..(e + size).min(self.edges.len())).collect()
    }

    /// Returns the parameters of the second parts, or of everything that reads the state, in the order of their
    /// gradients.
    pub(super) fn ids(&self, group: Range<usize>, second: bool) -> Vec<Id> {
        self.edges[group].iter().flat_map(|e| e.ids(second)).collect()
    }

    /// Runs the first convolutions of a group, and the pools with the first group. `values` holds the states of
    /// the cell.
    pub(super) fn forward_first(
        &mut self,
        c: &CellContext<'_>,
        group: Range<usize>,
        values: &[Pack],
        place: StateOffset,
    ) {
        let (maps_len, sums_len) = (self.maps_len(), self.sums_len());
        let pools = self.pools();
        let tasks = c.cut(&mut self.maps, maps_len).into_par_iter().zip(c.cut(&mut self.sums, sums_len));
        let (edges, map, stride, identity) =
            (&self.edges[group.clone()], self.map, self.stride, &self.identity);
        let len = self.node.len();
        let rectifies = edges.iter().any(FusedEdge::applies_relu);
        tasks.enumerate().for_each(|(chunk, (maps, sums))| {
            let mut scratch = c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let value = &values[i * place.image + place.offset..][..map.len()];
                let maps = &mut maps[at * maps_len..][..maps_len];
                let sums = &mut sums[at * sums_len..][..sums_len];
                if group.start == 0 {
                    sums.fill(Pack::ZERO);
                }
                if group.start == 0 && pools {
                    let (max, rest) = maps.split_at_mut(len);
                    let average = &mut rest[..len];
                    c.level.run(pool::PoolForward { stride, map, source: value, max, average, sums });
                }
                if rectifies {
                    relu_map(c, identity, map, value, &mut scratch);
                }
                for edge in edges {
                    edge.forward(c.level, c.parameters, value, &mut scratch, maps, sums);
                }
            }
        });
    }

    /// Runs the second parts of a group's separable convolutions.
    pub(super) fn forward_second(&mut self, c: &CellContext<'_>, group: Range<usize>) {
        let (maps_len, sums_len) = (self.maps_len(), self.sums_len());
        let tasks = c.cut(&mut self.maps, maps_len).into_par_iter().zip(c.cut(&mut self.sums, sums_len));
        let edges = &self.edges[group];
        tasks.enumerate().for_each(|(chunk, (maps, sums))| {
            let mut scratch = c.workspace.scratch();
            for at in 0..c.images(chunk).len() {
                let maps = &mut maps[at * maps_len..][..maps_len];
                let sums = &mut sums[at * sums_len..][..sums_len];
                for edge in edges {
                    edge.forward_second(c.level, c.parameters, &mut scratch, maps, sums);
                }
            }
        });
    }

    /// Computes the weighted sums of a group's feature maps into the nodes, or adds them to earlier sums with
    /// `add`.
    pub(super) fn forward_sum(
        &self,
        c: &CellContext<'_>,
        group: Range<usize>,
        (values, place): (&mut [Pack], StateOffset),
        add: bool,
    ) {
        let edges = &self.edges[group];
        let weights: Vec<_> =
            edges.iter().map(|e| e.sum_weights(&c.mixture[e.row], self.node.packs)).collect();
        let (end, len, maps_len) = (place.offset + self.map.len(), self.node.len(), self.maps_len());
        c.cut(values, place.image).into_par_iter().enumerate().for_each(|(chunk, values)| {
            for (i, values) in c.images(chunk).zip(values.chunks_exact_mut(place.image)) {
                let (before, after) = values.split_at_mut(end);
                let maps = &self.maps[i * maps_len..][..maps_len];
                for (edge, (scales, bias)) in edges.iter().zip(&weights) {
                    let maps = edge.maps(maps, &before[place.offset..], len);
                    let terms = scales.iter().zip(maps).map(|(scale, map)| ScaledMap { scale, map });
                    let terms: Vec<ScaledMap<'_>> = terms.collect();
                    let out = &mut after[place.nodes + edge.target * len - end..][..len];
                    c.level.run(WeightedSum { map: self.node, terms: &terms, bias, add, out });
                }
            }
        });
    }

    /// Converts the sums of a forward phase into the BatchNorm scaling of its feature maps.
    pub(super) fn normalise(
        &mut self,
        c: &CellContext<'_>,
        group: Range<usize>,
        second: bool,
        statistics: &mut Statistics,
    ) {
        let (count, copies) = (self.values(c), self.copies);
        let which = if second { 0..DIL3 } else { DIL3..usize::MAX };
        let (sums_len, packs) = (self.sums_len(), self.node.packs);
        let FusedState { edges, sums, .. } = self;
        let total = |which: usize| copies.share(totals(sums, sums_len, which, packs));
        let of = |slot: usize| NormMoments::of(total(2 * slot), total(2 * slot + 1), count);
        let mut norms = Vec::new();
        for edge in &mut edges[group] {
            let pools: [bool; 2] = POOLS.map(|column| edge.is_active(column));
            let convolutions = edge.convolutions.iter_mut().zip(edge.slots).enumerate();
            let convolutions = convolutions.filter(|(i, _)| which.contains(i));
            norms.extend(convolutions.filter_map(|(_, (x, slot))| Some((slot?, &mut x.norm))));
            let pools = edge.pools.iter_mut().enumerate().filter(|(which, _)| !second && pools[*which]);
            norms.extend(pools);
        }
        if c.training {
            let moments: Vec<NormMoments> = norms.par_iter().map(|(slot, _)| of(*slot)).collect();
            let both = norms.into_iter().zip(&moments);
            both.for_each(|((_, norm), moments)| norm.train(moments, count, statistics));
        } else {
            for (_, norm) in norms {
                norm.evaluate(statistics);
                copies.repeat(&mut norm.scaling);
            }
        }
    }

    /// Returns the number of values of a node's channel over the batch.
    pub(super) fn values(&self, c: &CellContext<'_>) -> f64 {
        (c.batch * self.copies.count * self.node.pixels()) as f64
    }

    /// Writes the padded ReLU of the state into `scratch.a`.
    pub(super) fn relu_into(&self, c: &CellContext<'_>, source: &[Pack], scratch: &mut Scratch) {
        relu_map(c, &self.identity, self.map, source, scratch);
    }
}

fn relu_map(c: &CellContext<'_>, identity: &Scaling, map: MapSize, source: &[Pack], scratch: &mut Scratch) {
    let out = scratch.a.of(map);
    c.level.run(PadRelu { map, source, scale: &identity.scale, shift: &identity.shift, out });
}
