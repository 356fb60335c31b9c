//! A state of a cell as the source of edges: what its edges share (pooled maps, the rectified padded
//! value) and what they keep for the backward pass.

use milenas_models::kernels::blocked::elementwise::{Gate, PadRectify, Term, WeightedSum};
use milenas_models::kernels::blocked::norm::{Moments, Scaling, Slope, total};
use milenas_models::kernels::blocked::simd::{floats, floats_mut};
use milenas_models::kernels::blocked::{LANES, Map, Pack, pool};
use rayon::prelude::*;

use super::context::Context;
use super::edge::{DIL3, Edge, SEP3, SEP3_FIRST, SEP5, SEP5_FIRST};
use super::norm::Statistics;
use super::parameters::{Gradients, Id};
use super::scratch::Scratch;
use crate::supernet::CANDIDATES;

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
    /// `[image][slot][2][block]` sums of those maps and of their squares; later of gradients.
    sums: Vec<Pack>,
    identity: Scaling,
}

/// Where a state lies among those of its cell's image.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Place {
    /// Packs of all states of an image.
    pub(super) image: usize,
    /// Packs before this one.
    pub(super) offset: usize,
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

    /// Where the maps of the next edge start.
    pub(super) fn slots(&self) -> usize {
        self.edges.last().map_or(2, |e| e.slot + e.convolutions.len())
    }

    /// The maps of one image, in packs; a state without edges has none.
    pub(super) fn maps_len(&self) -> usize {
        if self.edges.is_empty() { 0 } else { self.slots() * self.node.len() }
    }

    fn sums_len(&self) -> usize {
        if self.edges.is_empty() { 0 } else { self.slots() * 2 * self.node.packs }
    }

    /// The maps of image `i`.
    pub(super) fn maps(&self, i: usize) -> &[Pack] {
        &self.maps[i * self.maps_len()..][..self.maps_len()]
    }

    /// For a batch of states of this size.
    pub(super) fn resize(&mut self, map: Map, batch: usize) {
        self.map = Map { packs: self.map.packs, ..map };
        self.node = self.map.strided(self.stride);
        self.edges.iter_mut().for_each(|edge| edge.resize(self.map));
        self.maps.resize(batch * self.maps_len(), Pack::ZERO);
        self.sums.resize(batch * self.sums_len(), Pack::ZERO);
    }

    /// Everything that reads the state. `make(i, before, value)` sets the state of image `i`, given the states
    /// before it; `values` holds all states of the cell.
    pub(super) fn forward(
        &mut self,
        c: &Context<'_>,
        values: &mut [Pack],
        place: Place,
        make: impl Fn(usize, &[Pack], &mut [Pack]) + Sync,
    ) {
        let (maps_len, sums_len) = (self.maps_len(), self.sums_len());
        let tasks = c.cut(&mut self.maps, maps_len).into_par_iter().zip(c.cut(&mut self.sums, sums_len));
        let (edges, map, node, stride) = (&self.edges, self.map, self.node, self.stride);
        let identity = &self.identity;
        tasks.zip(c.cut(values, place.image)).enumerate().for_each(|(chunk, ((maps, sums), values))| {
            let mut scratch = c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let (before, value) = values[at * place.image..].split_at_mut(place.offset);
                let value = &mut value[..map.len()];
                make(i, before, value);
                if edges.is_empty() {
                    continue;
                }
                let maps = &mut maps[at * maps_len..][..maps_len];
                let sums = &mut sums[at * sums_len..][..sums_len];
                let (max, rest) = maps.split_at_mut(node.len());
                let average = &mut rest[..node.len()];
                sums.fill(Pack::ZERO);
                c.level.run(pool::Forward { stride, map, source: value, max, average, sums });
                rectify(c, identity, map, value, &mut scratch);
                for edge in edges {
                    edge.forward(c.level, c.parameters, value, &mut scratch, maps, sums);
                }
            }
        });
    }

    /// The second halves of the separable convolutions.
    pub(super) fn forward_second(&mut self, c: &Context<'_>) {
        let (maps_len, sums_len) = (self.maps_len(), self.sums_len());
        let tasks = c.cut(&mut self.maps, maps_len).into_par_iter().zip(c.cut(&mut self.sums, sums_len));
        let edges = &self.edges;
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

    /// Totals over the batch of both sums of a slot.
    fn totals(&self, c: &Context<'_>, slot: usize) -> [Vec<f64>; 2] {
        let packs = self.node.packs;
        [0, 1].map(|which| {
            let first = (slot * 2 + which) * packs;
            total((0..c.batch).map(|i| &self.sums[i * self.sums_len() + first..][..packs]), packs)
        })
    }

    /// Turns the sums of a forward phase into the norms of the maps it wrote.
    pub(super) fn normalise(&mut self, c: &Context<'_>, second: bool, statistics: &mut Statistics) {
        let count = (c.batch * self.node.pixels()) as f64;
        let slots: Vec<usize> = if second {
            self.edges.iter().flat_map(|e| [e.slot + SEP3, e.slot + SEP5]).collect()
        } else {
            let own = |e: &Edge| e.slot + DIL3..e.slot + e.convolutions.len();
            [0, 1].into_iter().chain(self.edges.iter().flat_map(own)).collect()
        };
        let moments: Vec<Moments> = slots
            .par_iter()
            .map(|&slot| {
                let [sum, square] = self.totals(c, slot);
                Moments::of(sum, square, count)
            })
            .collect();
        for edge in &mut self.edges {
            let slot = edge.slot;
            let convolutions = edge.convolutions.iter_mut().enumerate().map(|(i, x)| (slot + i, &mut x.norm));
            for (slot, norm) in edge.pools.iter_mut().enumerate().chain(convolutions) {
                let Some(i) = slots.iter().position(|s| *s == slot) else { continue };
                if c.training {
                    norm.train(&moments[i], count, statistics);
                } else {
                    norm.evaluate(statistics);
                }
            }
        }
    }

    /// Back through the second halves of the separable convolutions, for the gradients of the cell's states,
    /// whose nodes begin at `nodes`. The gradients of the weights go to `weights`, a buffer per chunk.
    pub(super) fn backward_second(
        &mut self,
        c: &Context<'_>,
        gradients: &[Pack],
        nodes: Place,
        weights: Option<&mut Gradients>,
    ) {
        let (maps_len, sums_len, len) = (self.maps_len(), self.sums_len(), self.node.len());
        let weights = per_chunk(c, weights, &self.ids(true));
        let tasks = c.cut(&mut self.maps, maps_len).into_par_iter().zip(c.cut(&mut self.sums, sums_len));
        let edges = &self.edges;
        tasks.zip(weights).enumerate().for_each(|(chunk, ((maps, sums), mut weights))| {
            let mut scratch = c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let maps = &mut maps[at * maps_len..][..maps_len];
                let sums = &mut sums[at * sums_len..][..sums_len];
                let mut rest = weights.as_deref_mut();
                for edge in edges {
                    let node = &gradients[i * nodes.image + nodes.offset + edge.target * len..][..len];
                    edge.backward_second(c.level, c.parameters, node, &mut scratch, (maps, sums), &mut rest);
                }
            }
        });
    }

    /// The slopes of the first halves' norms, from the sums that [`Self::backward_second`] left.
    pub(super) fn slope_firsts(&mut self, c: &Context<'_>) {
        let count = (c.batch * self.node.pixels()) as f64;
        for e in 0..self.edges.len() {
            for i in [SEP3_FIRST, SEP5_FIRST] {
                let [sum, dot] = self.totals(c, self.edges[e].slot + i);
                let norm = &mut self.edges[e].convolutions[i].norm;
                norm.slope = Slope::of(&norm.scaling, 1.0, &sum, &dot, count).0;
            }
        }
    }

    /// Parameters of the second halves, or of all that reads the state, in the order of their gradients.
    pub(super) fn ids(&self, second: bool) -> Vec<Id> {
        self.edges.iter().flat_map(|e| e.ids(second)).collect()
    }

    /// Back through everything that reads the state, for the gradients of all states of the cell; whether the
    /// state's own is added to says `add`. `first_node` is the first node after the state, and its place. `finish(i, gradient, dots)` sees it done, with its part of `dots`, `dots_len` packs.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward(
        &self,
        c: &Context<'_>,
        mixture: &[[f32; CANDIDATES]],
        (values, gradients): (&[Pack], &mut [Pack]),
        place: Place,
        first_node: (usize, Place),
        add: bool,
        weights: Option<&mut Gradients>,
        (dots, dots_len): (&mut [Pack], usize),
        finish: impl Fn(usize, &[Pack], &mut [Pack]) + Sync,
    ) {
        let weights = per_chunk(c, weights, &self.ids(false));
        let shared = Shared::new(self, mixture);
        let tasks = c.cut(gradients, place.image).into_par_iter().zip(c.cut(dots, dots_len)).zip(weights);
        tasks.enumerate().for_each(|(chunk, ((gradients, dots), mut weights))| {
            let mut scratch = c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let gradients = &mut gradients[at * place.image..][..place.image];
                let end = place.offset + self.map.len();
                let (own, after) = gradients.split_at_mut(end);
                let (own, after) = (&mut own[place.offset..], &after[first_node.1.offset - end..]);
                let value = &values[i * place.image + place.offset..][..self.map.len()];
                if !self.edges.is_empty() {
                    let mut rest = weights.as_deref_mut();
                    self.backward_image(
                        c,
                        i,
                        value,
                        (own, after, first_node.0),
                        add,
                        &shared,
                        &mut scratch,
                        &mut rest,
                    );
                }
                finish(i, own, &mut dots[at * dots_len..][..dots_len]);
            }
        });
    }

    /// One image of [`Self::backward`]; `after` holds the gradients of the nodes from `first_node` on.
    #[allow(clippy::too_many_arguments)]
    fn backward_image(
        &self,
        c: &Context<'_>,
        i: usize,
        value: &[Pack],
        (own, after, first_node): (&mut [Pack], &[Pack], usize),
        add: bool,
        shared: &Shared,
        scratch: &mut Scratch,
        weights: &mut Option<&mut [Pack]>,
    ) {
        let (maps, len) = (self.maps(i), self.node.len());
        let node = |edge: &Edge| &after[(edge.target - first_node) * len..][..len];
        if weights.is_some() {
            rectify(c, &self.identity, self.map, value, scratch);
        }
        for (e, edge) in self.edges.iter().enumerate() {
            edge.backward(c.level, c.parameters, (value, node(edge), maps), scratch, weights, e > 0);
        }
        c.level.run(Gate { gradient: &scratch.da, source: value, add, out: own });
        if self.stride == 1 {
            let terms = self.edges.iter().zip(&shared.skip).map(|(e, scale)| Term { scale, map: node(e) });
            let terms: Vec<Term<'_>> = terms.collect();
            c.level.run(WeightedSum { map: self.map, terms: &terms, bias: None, out: own });
        }
        let Scratch { dy, pool, .. } = scratch;
        dy.resize(len, Pack::ZERO);
        pool.resize(2 * self.map.height * self.node.width + self.node.width + 2, Pack::ZERO);
        for (which, (scales, factor, constant)) in shared.pools.iter().enumerate() {
            let pooled = &maps[which * len..][..len];
            let terms = self.edges.iter().zip(scales).map(|(e, scale)| Term { scale, map: node(e) });
            let terms: Vec<Term<'_>> = terms.chain([Term { scale: factor, map: pooled }]).collect();
            c.level.run(WeightedSum { map: self.node, terms: &terms, bias: Some(constant), out: dy });
            let (stride, map) = (self.stride, self.map);
            if which == 0 {
                let (source, max) = (value, pooled);
                c.level.run(pool::MaxBackward {
                    stride,
                    map,
                    source,
                    max,
                    gradient: dy,
                    scratch: pool,
                    out: own,
                });
            } else {
                c.level.run(pool::AverageBackward { stride, map, gradient: dy, scratch: pool, out: own });
            }
        }
    }
}

/// What the edges of a state give back together to its pools and identity skips.
struct Shared {
    /// Of max and average pooling: `[edge][block]` factors of the nodes' gradients, `[block]` factor of the pooled
    /// map, and constant.
    pools: [(Vec<Vec<Pack>>, Vec<Pack>, Vec<Pack>); 2],
    /// `[edge][block]` factors of the nodes' gradients.
    skip: Vec<Vec<Pack>>,
}

impl Shared {
    fn new(state: &State, mixture: &[[f32; CANDIDATES]]) -> Shared {
        let packs = state.node.packs;
        let pools = [0, 1].map(|which| {
            let (mut factor, mut constant) = (vec![Pack::ZERO; packs], vec![Pack::ZERO; packs]);
            for edge in &state.edges {
                let slope = &edge.pools[which].slope;
                for (total, part) in [(&mut factor, &slope.b), (&mut constant, &slope.c)] {
                    let lanes = floats_mut(total).iter_mut().zip(floats(part));
                    lanes.for_each(|(total, part)| *total += part);
                }
            }
            let scales = state.edges.iter().map(|edge| edge.pools[which].slope.a.clone()).collect();
            (scales, factor, constant)
        });
        let skip = state.edges.iter().map(|e| vec![Pack([mixture[e.row][3]; LANES]); packs]).collect();
        Shared { pools, skip }
    }
}

/// Rectifies and pads a state into `scratch.a`.
fn rectify(c: &Context<'_>, identity: &Scaling, map: Map, source: &[Pack], scratch: &mut Scratch) {
    let out = scratch.a.of(map);
    c.level.run(PadRectify { map, source, scale: &identity.scale, shift: &identity.shift, out });
}

/// A zeroed buffer per chunk for the gradients of the parameters `ids`, if they are wanted.
pub(super) fn per_chunk<'a>(
    c: &Context<'_>,
    weights: Option<&'a mut Gradients>,
    ids: &[Id],
) -> Vec<Option<&'a mut [Pack]>> {
    match weights {
        Some(weights) => {
            weights.chunks(c.parameters, ids, c.chunks()).iter_mut().map(|x| Some(&mut x[..])).collect()
        }
        None => (0..c.chunks()).map(|_| None).collect(),
    }
}
