//! Partial channels (PC-DARTS, section 3.2): the candidates' part of every state, and the way past them.
//!
//! The states' first channels lie apart, those of several images in one pack where they are few, and the edges work on these
//! as on any batch. A node is shuffled from their sum and from the weighted rest of its sources. Backward a node's gradient is
//! unshuffled in place: zeros for the part, then the rest in the order of the sources' channels.

use milenas_models::fused::Copies;
use milenas_models::fused::norm::totals;
use milenas_models::kernels::cpu::elementwise::{Dots, ScaledMap, WeightedSum};
use milenas_models::kernels::cpu::{LANES, MapSize, Pack};
use rayon::prelude::*;

use super::context::CellContext;
use super::state::StateOffset;
use crate::supernet::Row;

/// What a cell with partial channels has besides its states.
pub(super) struct Partial {
    /// Parts of a state's channels.
    parts: usize,
    /// Of the part that candidates see.
    pub(super) copies: Copies,
    /// `[pack of images]`, then the part of each state.
    pub(super) values: Vec<Pack>,
    /// Their gradients.
    pub(super) gradients: Vec<Pack>,
    /// `[image][input]` 2x2 maxima of the inputs, where edges from them are strided.
    halved: Vec<Pack>,
}

/// Where a state lies, whole and in part.
#[derive(Copy, Clone)]
pub(super) struct StateViews {
    pub(super) whole: StateOffset,
    pub(super) part: StateOffset,
}

/// The edges that a node, or a state, has the rest of channels from, or for: offset of the other state in an image, the weight.
pub(super) type Past = Vec<(usize, f32)>;

/// A state at work.
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

    /// Packs of both halved inputs.
    fn halved_len(self) -> usize {
        2 * self.node.len()
    }
}

impl Partial {
    pub(super) fn new(parts: usize) -> Partial {
        let copies = Copies::default();
        Partial { parts, copies, values: Vec::new(), gradients: Vec::new(), halved: Vec::new() }
    }

    /// For a batch of images with states of `channels`, `image` packs of parts and nodes of this size.
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

    /// The batch as the edges see it.
    pub(super) fn context<'a>(&self, c: &CellContext<'a>) -> CellContext<'a> {
        let mut c = *c;
        c.pass.batch /= self.copies.count;
        c
    }

    /// Completes a state, which is a node where it has `past`, and takes its part for the edges from it.
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

    /// Unshuffles the gradient of a node among `gradients`, and takes the part of the sum of its edges.
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

    /// By edge from a state, the products of the state's rest with its nodes' gradients; `sums` is room.
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

    /// Adds to the gradient of a state, or sets that of an input: its part's, and its rest's.
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

/// A factor per block of an edge, `[block]`.
fn weights(edges: &Past, packs: usize) -> Vec<(usize, Vec<Pack>)> {
    edges.iter().map(|(offset, weight)| (*offset, vec![Pack([*weight; LANES]); packs])).collect()
}

/// What an edge lets past its candidates: as much of the rest as of all of them together.
pub(super) fn past(row: &Row) -> f32 {
    row.iter().sum()
}

/// The channels of a node: channel `c * parts + g` is channel `c` of part `g`, and part 0 is the candidates'.
#[derive(Copy, Clone)]
struct Shuffle {
    parts: usize,
    /// Of a part.
    channels: usize,
}

/// Lane of a channel in a map: pack of pixel 0, and place in it.
fn lane(channel: usize, pixels: usize) -> (usize, usize) {
    (channel / LANES * pixels, channel % LANES)
}

impl Shuffle {
    /// Channels of the node with those of the unshuffled state, part 0 left out.
    fn rest(self) -> impl Iterator<Item = (usize, usize)> {
        let Shuffle { parts, channels } = self;
        (1..parts).flat_map(move |g| (0..channels).map(move |c| (c * parts + g, g * channels + c)))
    }

    /// Channels of part 0: in the node, in the part, where image `copy` of a pack has its own.
    fn mixed(self, copy: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..self.channels).map(move |c| (c * self.parts, copy * self.channels + c))
    }

    /// A node from the rest, unshuffled, and the mixed part.
    fn join(self, map: MapSize, rest: &[Pack], part: &[Pack], copy: usize, out: &mut [Pack]) {
        copy_lanes(map.pixels(), self.rest().map(|(node, state)| (state, node)), rest, out, |to, x| *to = x);
        copy_lanes(map.pixels(), self.mixed(copy).map(|(node, part)| (part, node)), part, out, |to, x| {
            *to = x
        });
    }

    /// The reverse: `rest` gets zeros for part 0.
    fn split(self, map: MapSize, node: &[Pack], rest: &mut [Pack], copy: usize, part: &mut [Pack]) {
        rest.fill(Pack::ZERO);
        copy_lanes(map.pixels(), self.rest(), node, rest, |to, x| *to = x);
        copy_lanes(map.pixels(), self.mixed(copy), node, part, |to, x| *to = x);
    }

    /// The first channels of a state.
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

/// Moves channels of a map, `(from, to)`, to those of another of its size.
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

/// The pixels of each window of 2x2, row-major; those past the border are left out.
fn windows(map: MapSize) -> impl Iterator<Item = impl Iterator<Item = usize>> {
    let MapSize { height, width, packs } = map;
    let small = map.strided(2);
    (0..packs * small.pixels()).map(move |i| {
        let (block, y, x) = (i / small.pixels(), i % small.pixels() / small.width, i % small.width);
        let rows = (2 * y..(2 * y + 2).min(height)).map(move |y| (block * height + y) * width);
        rows.flat_map(move |row| (2 * x..(2 * x + 2).min(width)).map(move |x| row + x))
    })
}

/// 2x2 maxima.
fn halve(map: MapSize, source: &[Pack], out: &mut [Pack]) {
    for (window, out) in windows(map).zip(out) {
        *out = Pack([f32::NEG_INFINITY; LANES]);
        for at in window {
            out.0.iter_mut().zip(source[at].0).for_each(|(max, x)| *max = max.max(x));
        }
    }
}

/// The gradient of [`halve`], added to `out`: to the first of each window's maxima.
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
