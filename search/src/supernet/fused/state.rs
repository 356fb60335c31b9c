//! A state of a cell as the source of edges: what its edges share (pooled maps, the rectified padded
//! value), what they keep for the backward pass, and the phases forward.
//!
//! Edges run in groups small enough that what one phase of a group writes is still in the last cache when the
//! next phase reads it.

use core::ops::Range;

use milenas_models::fused::norm::totals;
use milenas_models::fused::parameters::Id;
use milenas_models::fused::{self, Scratch, Statistics};
use milenas_models::kernels::blocked::elementwise::{PadRectify, Term, WeightedSum};
use milenas_models::kernels::blocked::norm::{Moments, Scaling};
use milenas_models::kernels::blocked::{Map, Pack, pool};
use rayon::prelude::*;

use super::context::Context;
use super::edge::{COLUMNS, DIL3, Edge, SEP3, SEP5};

/// Packs that the maps of a group of edges may fill: a few MiB of the last cache.
const GROUP: usize = (16 << 20) / size_of::<Pack>();

/// A source state and the edges from it.
pub(super) struct State {
    /// Size of the state.
    pub(super) map: Map,
    /// Size of the nodes.
    pub(super) node: Map,
    pub(super) stride: usize,
    /// In the order of their nodes.
    pub(super) edges: Vec<Edge>,
    /// `[image][slot]` maps of the nodes' size: max pool, average pool, then each edge's.
    pub(super) maps: Vec<Pack>,
    /// `[image][slot][2][block]` sums of the maps and of their squares; of gradients in the backward pass.
    pub(super) sums: Vec<Pack>,
    identity: Scaling,
}

/// Where a state and the nodes it has edges to lie among the states of its cell's image.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Place {
    /// Packs of all states of an image.
    pub(super) image: usize,
    /// Packs before the state.
    pub(super) offset: usize,
    /// Packs before the first node.
    pub(super) nodes: usize,
}

impl From<Place> for fused::Place {
    fn from(Place { image, offset, .. }: Place) -> Self {
        fused::Place { image, offset }
    }
}

impl State {
    pub(super) fn new(stride: usize, packs: usize) -> State {
        State {
            map: Map { packs, ..Map::default() },
            node: Map { packs, ..Map::default() },
            stride,
            edges: Vec::new(),
            maps: Vec::new(),
            sums: Vec::new(),
            identity: Scaling::identity(packs),
        }
    }

    /// Maps that the edges keep, the pooled ones with them; a state without edges has none.
    pub(super) fn slots(&self) -> usize {
        self.edges.last().map_or(0, |e| e.slot + e.convolutions.len())
    }

    /// The maps of one image, in packs.
    pub(super) fn maps_len(&self) -> usize {
        self.slots() * self.node.len()
    }

    /// The sums of one image, in packs.
    pub(super) fn sums_len(&self) -> usize {
        self.slots() * 2 * self.node.packs
    }

    /// For a batch of states of this size.
    pub(super) fn resize(&mut self, map: Map, batch: usize) {
        self.map = Map { packs: self.map.packs, ..map };
        self.node = self.map.strided(self.stride);
        self.edges.iter_mut().for_each(|edge| edge.resize(self.map));
        self.maps.resize(batch * self.maps_len(), Pack::ZERO);
        self.sums.resize(batch * self.sums_len(), Pack::ZERO);
    }

    /// The edges, cut into groups.
    pub(super) fn groups(&self, c: &Context<'_>) -> Vec<Range<usize>> {
        let edge = self.edges.first().map_or(0, |e| e.convolutions.len()) * self.node.len() * c.batch;
        let size = (GROUP / edge.max(1)).max(1);
        (0..self.edges.len()).step_by(size).map(|e| e..(e + size).min(self.edges.len())).collect()
    }

    /// Parameters of the second halves, or of all that reads the state, in the order of their gradients.
    pub(super) fn ids(&self, group: Range<usize>, second: bool) -> Vec<Id> {
        self.edges[group].iter().flat_map(|e| e.ids(second)).collect()
    }

    /// The first convolutions of a group, and the pools with the first group. `values` holds the states of the cell.
    pub(super) fn forward_first(
        &mut self,
        c: &Context<'_>,
        group: Range<usize>,
        values: &[Pack],
        place: Place,
    ) {
        let (maps_len, sums_len) = (self.maps_len(), self.sums_len());
        let tasks = c.cut(&mut self.maps, maps_len).into_par_iter().zip(c.cut(&mut self.sums, sums_len));
        let (edges, map, stride, identity) =
            (&self.edges[group.clone()], self.map, self.stride, &self.identity);
        let len = self.node.len();
        tasks.enumerate().for_each(|(chunk, (maps, sums))| {
            let mut scratch = c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let value = &values[i * place.image + place.offset..][..map.len()];
                let maps = &mut maps[at * maps_len..][..maps_len];
                let sums = &mut sums[at * sums_len..][..sums_len];
                if group.start == 0 {
                    sums.fill(Pack::ZERO);
                    let (max, rest) = maps.split_at_mut(len);
                    let average = &mut rest[..len];
                    c.level.run(pool::Forward { stride, map, source: value, max, average, sums });
                }
                rectify(c, identity, map, value, &mut scratch);
                for edge in edges {
                    edge.forward(c.level, c.parameters, value, &mut scratch, maps, sums);
                }
            }
        });
    }

    /// The second halves of the separable convolutions of a group.
    pub(super) fn forward_second(&mut self, c: &Context<'_>, group: Range<usize>) {
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

    /// The weighted sums of a group's maps, into the nodes; they are added to those of earlier states where `add`.
    pub(super) fn forward_sum(
        &self,
        c: &Context<'_>,
        group: Range<usize>,
        (values, place): (&mut [Pack], Place),
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
                    let terms: [Term<'_>; COLUMNS.len()] =
                        std::array::from_fn(|m| Term { scale: &scales[m], map: maps[m] });
                    let out = &mut after[place.nodes + edge.target * len - end..][..len];
                    c.level.run(WeightedSum { map: self.node, terms: &terms, bias, add, out });
                }
            }
        });
    }

    /// Turns the sums of a forward phase into the norms of the maps it wrote.
    pub(super) fn normalise(
        &mut self,
        c: &Context<'_>,
        group: Range<usize>,
        second: bool,
        statistics: &mut Statistics,
    ) {
        let count = (c.batch * self.node.pixels()) as f64;
        let slots: Vec<usize> = self.edges[group.clone()]
            .iter()
            .flat_map(|e| {
                if second {
                    e.slot + SEP3..e.slot + SEP5 + 1
                } else {
                    e.slot + DIL3..e.slot + e.convolutions.len()
                }
            })
            .collect();
        let total = |which: usize| totals(&self.sums, self.sums_len(), which, self.node.packs);
        let of = |slot: &usize| Moments::of(total(2 * slot), total(2 * slot + 1), count);
        let moments: Vec<Moments> = if c.training { slots.par_iter().map(of).collect() } else { Vec::new() };
        let pools: Vec<Moments> =
            if c.training && !second { (0..2).map(|slot| of(&slot)).collect() } else { Vec::new() };
        let mut moments = moments.iter();
        for edge in &mut self.edges[group] {
            let Edge { convolutions, pools: pool_norms, .. } = edge;
            let (seconds, firsts) = convolutions.split_at_mut(DIL3);
            let norms = if second { seconds } else { firsts }.iter_mut().map(|x| &mut x.norm);
            if c.training {
                norms.zip(&mut moments).for_each(|(norm, m)| norm.train(m, count, statistics));
                pool_norms.iter_mut().zip(&pools).for_each(|(norm, m)| norm.train(m, count, statistics));
            } else {
                norms.chain(pool_norms).for_each(|norm| norm.evaluate(statistics));
            }
        }
    }

    /// Rectifies and pads the state into `scratch.a`.
    pub(super) fn rectify(&self, c: &Context<'_>, source: &[Pack], scratch: &mut Scratch) {
        rectify(c, &self.identity, self.map, source, scratch);
    }
}

fn rectify(c: &Context<'_>, identity: &Scaling, map: Map, source: &[Pack], scratch: &mut Scratch) {
    let out = scratch.a.of(map);
    c.level.run(PadRectify { map, source, scale: &identity.scale, shift: &identity.shift, out });
}
