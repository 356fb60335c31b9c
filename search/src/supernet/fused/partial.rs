//! Partial channels (PC-DARTS, section 3.2): the candidates' part of every state, and the bypass of the other
//! channels.
//!
//! The first channels of the states are stored separately. If they are few, those of several images share a
//! pack. The edges process them like any batch. A node is shuffled from their sum and from the weighted
//! bypasses of its sources. In the backward pass a node's gradient is unshuffled in place: zeros for the part,
//! then the rest in the order of the sources' channels.

use milenas_models::fused::Copies;
use milenas_models::fused::norm::totals;
use milenas_models::kernels::cpu::elementwise::{Dots, ScaledMap, WeightedSum};
use milenas_models::kernels::cpu::{LANES, MapSize, Pack};
use rayon::prelude::*;

use super::context::CellContext;
use super::state::StateOffset;
use crate::supernet::wired::Row;

/// Buffers of a cell with partial channels, besides its states.
pub(super) struct Partial {
    /// Divisor of a state's channels.
    parts: usize,
    /// Number of images in a pack of the candidates' part.
    pub(super) copies: Copies,
    /// Values `[pack of images]`, then the part of each state.
    pub(super) values: Vec<Pack>,
    /// Gradients of `values`.
    pub(super) gradients: Vec<Pack>,
    /// Max pooled inputs `[image][input]` (2x2), if the edges from them are strided.
    halved: Vec<Pack>,
}

/// Locations of a state, whole and as part.
#[derive(Copy, Clone)]
pub(super) struct StateViews {
    pub(super) whole: StateOffset,
    pub(super) part: StateOffset,
}

/// Edges with a bypass to a node, or from a state: offset of the other state in an image, and the weight.
pub(super) type Past = Vec<(usize, f32)>;

/// State that is processed.
#[derive(Copy, Clone)]
pub(super) struct WorkingState {
    pub(super) state: usize,
    pub(super) map: MapSize,
    /// Size of a node.
    pub(super) node: MapSize,
    pub(super) places: StateViews,
}

impl WorkingState {
    fn strided(self) -> bool {
        self.map.pixels() != self.node.pixels() && self.state < 2
    }

    /// Returns the number of packs of both halved inputs.
    fn halved_len(self) -> usize {
        2 * self.node.len()
    }
}

impl Partial {
    pub(super) fn new(parts: usize) -> Partial {
        let copies = Copies::default();
        Partial { parts, copies, values: Vec::new(), gradients: Vec::new(), halved: Vec::new() }
    }

    /// Allocates buffers for a batch of images with states of `channels`; `image` is the number of packs of an
    /// image's parts, `node` the size of a node.
    pub(super) fn resize(
        &mut self,
        batch: usize,
        channels: usize,
        image: usize,
        node: MapSize,
        strided: bool,
    ) {
        self.copies = Copies::fitting(channels / self.parts, batch);
        for packs in [&mut self.values, &mut self.gradients] {
            packs.clear();
            packs.resize(batch / self.copies.count * image, Pack::ZERO);
        }
        self.halved.resize(if strided { batch * 2 * node.len() } else { 0 }, Pack::ZERO);
    }

    /// Returns the context of the edges, in which a pack of images counts as one image.
    pub(super) fn context<'a>(&self, c: &CellContext<'a>) -> CellContext<'a> {
        let mut c = *c;
        c.pass.batch /= self.copies.count;
        c
    }

    /// Completes a state by its bypasses in `past` if it is a node, and copies its part for the edges from it.
    pub(super) fn forward(
        &mut self,
        c: &CellContext<'_>,
        at: WorkingState,
        values: &mut [Pack],
        past: &[(Past, bool)],
    ) {
        let (shuffle, count, inner) = (self.shuffle(), self.copies.count, self.context(c));
        let WorkingState { map, places: StateViews { whole, part }, .. } = at;
        let terms: Vec<_> =
            past.iter().map(|(edges, halved)| (weights(edges, at.node.packs), *halved)).collect();
        let zero = vec![Pack::ZERO; at.node.packs];
        let halved_len = if self.halved.is_empty() { 0 } else { at.halved_len() };
        let tasks = inner.cut(values, count * whole.image).into_par_iter();
        let tasks = tasks.zip(inner.cut(&mut self.values, part.image));
        tasks.zip(inner.cut(&mut self.halved, count * halved_len)).for_each(|((values, parts), halved)| {
            let scratch = &mut *c.workspace.scratch();
            let images = values.chunks_exact_mut(whole.image).enumerate();
            for (i, image) in images {
                let part = &mut parts[i / count * part.image + part.offset..];
                let halved = &mut halved[i * halved_len..][..halved_len];
                let (before, own) = image.split_at_mut(whole.offset);
                let own = &mut own[..map.len()];
                if at.state >= 2 {
                    let terms = terms.iter().flat_map(|(edges, is_halved)| {
                        let from = if *is_halved { &halved[..] } else { &before[..] };
                        edges
                            .iter()
                            .map(|(offset, scale)| ScaledMap { scale, map: &from[*offset..][..map.len()] })
                    });
                    let (terms, rest) = (terms.collect::<Vec<_>>(), &mut scratch.dy);
                    rest.resize(map.len(), Pack::ZERO);
                    c.level.run(WeightedSum { map, terms: &terms, bias: &zero, add: false, out: rest });
                    shuffle.join(map, rest, part, i % count, own);
                } else if at.strided() {
                    halve(map, own, &mut halved[at.state * at.node.len()..][..at.node.len()]);
                }
                shuffle.take(map, own, i % count, part);
            }
        });
    }

    /// Unshuffles the gradient of a node among `gradients`, and copies the gradient of the sum of its edges.
    pub(super) fn part_gradient(&mut self, c: &CellContext<'_>, at: WorkingState, gradients: &mut [Pack]) {
        let (shuffle, count, inner) = (self.shuffle(), self.copies.count, self.context(c));
        let WorkingState { map, places: StateViews { whole, part }, .. } = at;
        let tasks = inner.cut(gradients, count * whole.image).into_par_iter();
        tasks.zip(inner.cut(&mut self.gradients, part.image)).for_each(|(gradients, parts)| {
            let scratch = &mut *c.workspace.scratch();
            for (i, image) in gradients.chunks_exact_mut(whole.image).enumerate() {
                let own = &mut image[whole.offset..][..map.len()];
                scratch.dy.clear();
                scratch.dy.extend_from_slice(own);
                let part = &mut parts[i / count * part.image + part.offset..];
                shuffle.split(map, &scratch.dy, own, i % count, part);
            }
        });
    }

    /// Returns, per edge from a state, the product of the state's bypass with its node's gradient; `sums` is
    /// scratch memory.
    pub(super) fn dots(
        &self,
        c: &CellContext<'_>,
        at: WorkingState,
        (values, gradients): (&[Pack], &[Pack]),
        edges: &Past,
        sums: &mut Vec<Pack>,
    ) -> Vec<f64> {
        let WorkingState { node, places: StateViews { whole, .. }, .. } = at;
        if edges.is_empty() {
            return Vec::new();
        }
        let len = edges.len() * 2 * node.packs;
        sums.clear();
        sums.resize(c.batch * len, Pack::ZERO);
        let halved = at.strided().then_some(&self.halved[..]);
        c.cut(sums, len).into_par_iter().enumerate().for_each(|(chunk, sums)| {
            for (i, sums) in c.images(chunk).zip(sums.chunks_exact_mut(len)) {
                let source = match halved {
                    Some(halved) => &halved[i * at.halved_len() + at.state * node.len()..],
                    None => &values[i * whole.image + whole.offset..],
                };
                for ((offset, _), out) in edges.iter().zip(sums.chunks_exact_mut(2 * node.packs)) {
                    let left = &gradients[i * whole.image + offset..][..node.len()];
                    c.level.run(Dots { pixels: node.pixels(), left, right: &[&source[..node.len()]], out });
                }
            }
        });
        (0..edges.len()).map(|e| totals(sums, len, 2 * e + 1, node.packs).iter().sum()).collect()
    }

    /// Adds the gradients of part and bypass to the gradient of a node; sets the gradient of an input.
    pub(super) fn backward(
        &self,
        c: &CellContext<'_>,
        at: WorkingState,
        (values, gradients): (&[Pack], &mut [Pack]),
        edges: &Past,
    ) {
        let (shuffle, count) = (self.shuffle(), self.copies.count);
        let WorkingState { map, node, places: StateViews { whole, part }, .. } = at;
        let (terms, zero) = (weights(edges, node.packs), vec![Pack::ZERO; node.packs]);
        c.cut(gradients, whole.image).into_par_iter().enumerate().for_each(|(chunk, gradients)| {
            let scratch = &mut *c.workspace.scratch();
            for (i, image) in c.images(chunk).zip(gradients.chunks_exact_mut(whole.image)) {
                let (before, nodes) = image.split_at_mut(whole.offset + map.len());
                let own = &mut before[whole.offset..];
                if at.state < 2 {
                    own.fill(Pack::ZERO);
                }
                let first = whole.offset + map.len();
                let terms = terms
                    .iter()
                    .map(|(offset, scale)| ScaledMap { scale, map: &nodes[offset - first..][..node.len()] });
                let terms: Vec<_> = terms.collect();
                let sum = |add, out: &mut [Pack]| {
                    c.level.run(WeightedSum { map: node, terms: &terms, bias: &zero, add, out });
                };
                if at.strided() {
                    scratch.dy.resize(node.len(), Pack::ZERO);
                    sum(false, &mut scratch.dy);
                    let source = &values[i * whole.image + whole.offset..][..map.len()];
                    halve_backward(map, source, &scratch.dy, own);
                } else {
                    sum(true, own);
                }
                let part = &self.gradients[i / count * part.image + part.offset..];
                shuffle.add(map, part, i % count, own);
            }
        });
    }

    fn shuffle(&self) -> Shuffle {
        Shuffle { parts: self.parts, channels: self.copies.channels }
    }
}

/// Returns the factors `[block]` of each edge.
fn weights(edges: &Past, packs: usize) -> Vec<(usize, Vec<Pack>)> {
    edges.iter().map(|(offset, weight)| (*offset, vec![Pack([*weight; LANES]); packs])).collect()
}

/// Returns the weight of an edge's bypass: the sum of the candidates' weights.
pub(super) fn past(row: &Row) -> f32 {
    row.iter().sum()
}

/// Channel shuffle of a node: channel `c * parts + g` is channel `c` of part `g`, and part 0 comes from the
/// candidates.
#[derive(Copy, Clone)]
struct Shuffle {
    parts: usize,
    /// Number of channels of a part.
    channels: usize,
}

/// Returns the location of a channel in a feature map: pack of pixel 0, and lane in it.
fn lane(channel: usize, pixels: usize) -> (usize, usize) {
    (channel / LANES * pixels, channel % LANES)
}

impl Shuffle {
    /// Returns the channels of the node, each with that of the unshuffled state, without part 0.
    fn rest(self) -> impl Iterator<Item = (usize, usize)> {
        let Shuffle { parts, channels } = self;
        (1..parts).flat_map(move |g| (0..channels).map(move |c| (c * parts + g, g * channels + c)))
    }

    /// Returns the channels of part 0: in the node, and in the part, in which image `copy` of a pack has its
    /// own channels.
    fn mixed(self, copy: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..self.channels).map(move |c| (c * self.parts, copy * self.channels + c))
    }

    /// Joins a node from the unshuffled bypass and the mixed part.
    fn join(self, map: MapSize, rest: &[Pack], part: &[Pack], copy: usize, out: &mut [Pack]) {
        copy_lanes(map.pixels(), self.rest().map(|(node, state)| (state, node)), rest, out, |to, x| *to = x);
        copy_lanes(map.pixels(), self.mixed(copy).map(|(node, part)| (part, node)), part, out, |to, x| {
            *to = x
        });
    }

    /// Splits a node into bypass and mixed part. `rest` gets zeros for part 0.
    fn split(self, map: MapSize, node: &[Pack], rest: &mut [Pack], copy: usize, part: &mut [Pack]) {
        rest.fill(Pack::ZERO);
        copy_lanes(map.pixels(), self.rest(), node, rest, |to, x| *to = x);
        copy_lanes(map.pixels(), self.mixed(copy), node, part, |to, x| *to = x);
    }

    /// Copies the first channels of a state into its part.
    fn take(self, map: MapSize, state: &[Pack], copy: usize, part: &mut [Pack]) {
        let lanes = (0..self.channels).map(|c| (c, copy * self.channels + c));
        copy_lanes(map.pixels(), lanes, state, part, |to, x| *to = x);
    }

    /// Adds a part to the first channels of a state.
    fn add(self, map: MapSize, part: &[Pack], copy: usize, state: &mut [Pack]) {
        let lanes = (0..self.channels).map(|c| (copy * self.channels + c, c));
        copy_lanes(map.pixels(), lanes, part, state, |to, x| *to += x);
    }
}

/// Copies channels `(from, to)` of a feature map to those of another one of the same size.
fn copy_lanes(
    pixels: usize,
    lanes: impl Iterator<Item = (usize, usize)>,
    from: &[Pack],
    to: &mut [Pack],
    set: impl Fn(&mut f32, f32),
) {
    let lanes: Vec<_> = lanes.map(|(source, target)| (lane(source, pixels), lane(target, pixels))).collect();
    for pixel in 0..pixels {
        for &((first, i), (out, j)) in &lanes {
            set(&mut to[out + pixel].0[j], from[first + pixel].0[i]);
        }
    }
}

/// Returns the pixels of each 2x2 window, row-major, without those past the border.
fn windows(map: MapSize) -> impl Iterator<Item = impl Iterator<Item = usize>> {
    let MapSize { height, width, packs } = map;
    let small = map.strided(2);
    (0..packs * small.pixels()).map(move |i| {
        let (block, y, x) = (i / small.pixels(), i % small.pixels() / small.width, i % small.width);
        let rows = (2 * y..(2 * y + 2).min(height)).map(move |y| (block * height + y) * width);
        rows.flat_map(move |row| (2 * x..(2 * x + 2).min(width)).map(move |x| row + x))
    })
}

/// Computes 2x2 maxima.
fn halve(map: MapSize, source: &[Pack], out: &mut [Pack]) {
    for (window, out) in windows(map).zip(out) {
        *out = Pack([f32::NEG_INFINITY; LANES]);
        for at in window {
            out.0.iter_mut().zip(source[at].0).for_each(|(max, x)| *max = max.max(x));
        }
    }
}

/// Adds the gradient of [`halve`] to `out`, at the first maximum of each window.
fn halve_backward(map: MapSize, source: &[Pack], gradient: &[Pack], out: &mut [Pack]) {
    for (window, gradient) in windows(map).zip(gradient) {
        let (mut max, mut first) = ([f32::NEG_INFINITY; LANES], [0; LANES]);
        for at in window {
            for (lane, x) in source[at].0.iter().enumerate() {
                if *x > max[lane] {
                    (max[lane], first[lane]) = (*x, at);
                }
            }
        }
        (0..LANES).for_each(|lane| out[first[lane]].0[lane] += gradient.0[lane]);
    }
}
