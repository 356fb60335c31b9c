//! Backward phases of a state's edges.

use core::ops::Range;

use milenas_models::fused::norm::totals;
use milenas_models::fused::parameters::per_chunk;
use milenas_models::fused::{Gradients, Scratch};
use milenas_models::kernels::cpu::elementwise::{Dots, Gate, ScaledMap, WeightedSum};
use milenas_models::kernels::cpu::norm::NormCoefficient;
use milenas_models::kernels::cpu::simd::{floats, floats_mut};
use milenas_models::kernels::cpu::{LANES, Pack, pool};
use rayon::prelude::*;

use super::context::CellContext;
use super::edge::{COLUMNS, FusedEdge, SEP3_FIRST, SEP5_FIRST};
use super::state::{FusedState, POOLS, SUMS, StateOffset};
use crate::supernet::wired::CANDIDATES;

impl FusedState {
    /// Computes sums over pixels of the nodes' gradients, and of their products with the feature maps of a
    /// group.
    pub(super) fn backward_dots(
        &mut self,
        c: &CellContext<'_>,
        group: Range<usize>,
        (values, gradients): (&[Pack], &[Pack]),
        place: StateOffset,
    ) {
        let (maps_len, sums_len, node) = (self.maps_len(), self.sums_len(), self.node);
        let (edges, maps, len) = (&self.edges[group], &self.maps, self.node.len());
        c.cut(&mut self.sums, sums_len).into_par_iter().enumerate().for_each(|(chunk, sums)| {
            for (i, sums) in c.images(chunk).zip(sums.chunks_exact_mut(sums_len)) {
                let value = &values[i * place.image + place.offset..];
                for (edge, out) in edges.iter().zip(sums.chunks_exact_mut(SUMS * node.packs)) {
                    let left = &gradients[i * place.image + place.nodes + edge.target * len..][..len];
                    let right = edge.maps(&maps[i * maps_len..][..maps_len], value, len);
                    c.level.run(Dots { pixels: node.pixels(), left, right: &right, out });
                }
            }
        });
    }

    /// Computes the gradient coefficients of the BatchNorms whose outputs reach the nodes, and the gradients of
    /// their weights in the mixture.
    pub(super) fn slopes(
        &mut self,
        c: &CellContext<'_>,
        group: Range<usize>,
        mixture_gradient: &mut [[f64; CANDIDATES]],
    ) {
        let (count, copies) = (self.values(c), self.copies);
        let (sums_len, packs) = (self.sums_len(), self.node.packs);
        let FusedState { edges, sums, .. } = self;
        let total = |which: usize| copies.share(totals(sums, sums_len, which, packs));
        let found = edges[group].par_iter_mut().enumerate().map(|(e, edge)| {
            let (row, sum, mut gradient) = (edge.row, total(e * SUMS), [0.0; CANDIDATES]);
            for (m, (column, norm)) in edge.norms_mut().enumerate() {
                let dot = total(e * SUMS + 1 + m);
                gradient[column] = match norm {
                    Some(norm) => {
                        let weight = f64::from(c.mixture[row][column]);
                        let (slope, total) = NormCoefficient::of(&norm.scaling, weight, &sum, &dot, count);
                        norm.slope = slope;
                        total
                    }
                    None => dot.iter().sum(),
                };
                // Every image of a pack has the sums of all images in the pack.
                gradient[column] /= copies.count as f64;
            }
            (row, gradient)
        });
        for (row, gradient) in found.collect::<Vec<_>>() {
            mixture_gradient[row].iter_mut().zip(gradient).for_each(|(total, part)| *total += part);
        }
    }

    /// Runs the second parts of a group's separable convolutions backward. `gradients` are those of the cell's
    /// states.
    pub(super) fn backward_second(
        &mut self,
        c: &CellContext<'_>,
        group: Range<usize>,
        (gradients, place): (&[Pack], StateOffset),
        weights: Option<&mut Gradients>,
    ) {
        let (maps_len, sums_len, len) = (self.maps_len(), self.sums_len(), self.node.len());
        let weights = per_chunk(c, weights, &self.ids(group.clone(), true));
        let tasks = c.cut(&mut self.maps, maps_len).into_par_iter().zip(c.cut(&mut self.sums, sums_len));
        let edges = &self.edges[group];
        tasks.zip(weights).enumerate().for_each(|(chunk, ((maps, sums), mut weights))| {
            let mut scratch = c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let maps = &mut maps[at * maps_len..][..maps_len];
                let sums = &mut sums[at * sums_len..][..sums_len];
                let mut rest = weights.as_deref_mut();
                for edge in edges {
                    let node = &gradients[i * place.image + place.nodes + edge.target * len..][..len];
                    edge.backward_second(c.level, c.parameters, node, &mut scratch, (maps, sums), &mut rest);
                }
            }
        });
    }

    /// Computes the gradient coefficients of the first parts' BatchNorms, from the sums of
    /// [`Self::backward_second`].
    pub(super) fn slope_firsts(&mut self, c: &CellContext<'_>, group: Range<usize>) {
        let (count, copies) = (self.values(c), self.copies);
        let (sums_len, packs) = (self.sums_len(), self.node.packs);
        let FusedState { edges, sums, .. } = self;
        let total = |which: usize| copies.share(totals(sums, sums_len, which, packs));
        edges[group].par_iter_mut().for_each(|edge| {
            for i in [SEP3_FIRST, SEP5_FIRST] {
                let Some(slot) = edge.slots[i] else { continue };
                let which = 2 * slot;
                let (sum, dot) = (total(which), total(which + 1));
                let norm = &mut edge.convolutions[i].norm;
                norm.slope = NormCoefficient::of(&norm.scaling, 1.0, &sum, &dot, count).0;
            }
        });
    }

    /// Runs all convolutions of a group that read the state backward. The state's gradient among `gradients` is
    /// set, or added to with `add`. The gradients of the pools' outputs are summed in `pools`, two feature maps
    /// per image, and propagated with the last group.
    pub(super) fn backward_first(
        &self,
        c: &CellContext<'_>,
        group: Range<usize>,
        (values, gradients, pools): (&[Pack], &mut [Pack], &mut [Pack]),
        place: StateOffset,
        add: bool,
        weights: Option<&mut Gradients>,
    ) {
        let weights = per_chunk(c, weights, &self.ids(group.clone(), false));
        let last = group.end == self.edges.len();
        let (edges, add_pools) = (&self.edges[group.clone()], group.start > 0);
        let shared = Shared::new(edges, c.mixture, self.node.packs);
        let (pooled, rectifies) = (self.pools(), edges.iter().any(FusedEdge::applies_relu));
        let (end, len) = (place.offset + self.map.len(), self.node.len());
        let tasks = c.cut(gradients, place.image).into_par_iter().zip(c.cut(pools, 2 * len)).zip(weights);
        tasks.enumerate().for_each(|(chunk, ((gradients, pools), mut weights))| {
            let scratch = &mut *c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let (own, after) = gradients[at * place.image..][..place.image].split_at_mut(end);
                let (own, pools) = (&mut own[place.offset..], &mut pools[at * 2 * len..][..2 * len]);
                let node = |edge: &FusedEdge| &after[place.nodes + edge.target * len - end..][..len];
                let value = &values[i * place.image + place.offset..][..self.map.len()];
                let maps = &self.maps[i * self.maps_len()..][..self.maps_len()];
                let mut rest = weights.as_deref_mut();
                if rest.is_some() && rectifies {
                    self.relu_into(c, value, scratch);
                }
                let begun = edges.iter().fold(false, |begun, edge| {
                    let maps = (value, node(edge), maps);
                    edge.backward(c.level, c.parameters, maps, scratch, &mut rest, begun)
                });
                if begun {
                    c.level.run(Gate { gradient: &scratch.da, source: value, add, out: own });
                } else if !add {
                    own[..self.map.len()].fill(Pack::ZERO);
                }
                let sum = |scales: &[(usize, Vec<Pack>)],
                           more: Option<ScaledMap<'_>>,
                           out: &mut [Pack],
                           bias: &[Pack],
                           add: bool| {
                    let terms = scales.iter().map(|(e, scale)| ScaledMap { scale, map: node(&edges[*e]) });
                    let terms: Vec<ScaledMap<'_>> = terms.chain(more).collect();
                    c.level.run(WeightedSum { map: self.node, terms: &terms, bias, add, out });
                };
                if !shared.skip.is_empty() {
                    sum(&shared.skip, None, own, &shared.zero, true);
                }
                if !pooled {
                    continue;
                }
                for (which, (part, out)) in shared.pools.iter().zip(pools.chunks_exact_mut(len)).enumerate() {
                    let pooled = ScaledMap { scale: &part.factor, map: &maps[which * len..][..len] };
                    sum(&part.scales, Some(pooled), out, &part.constant, add_pools);
                }
                if last {
                    self.backward_pools(c, value, maps, pools, scratch, own);
                }
            }
        });
    }

    /// Adds the gradient of both pools of an image to the state's gradient.
    fn backward_pools(
        &self,
        c: &CellContext<'_>,
        value: &[Pack],
        maps: &[Pack],
        gradients: &[Pack],
        scratch: &mut Scratch,
        out: &mut [Pack],
    ) {
        let (stride, map, len) = (self.stride, self.map, self.node.len());
        let pool = &mut scratch.pool;
        pool.resize((2 * map.height + 1) * self.node.width + 2, Pack::ZERO);
        let (max_gradient, average_gradient) = gradients.split_at(len);
        c.level.run(pool::MaxBackward {
            stride,
            map,
            source: value,
            max: &maps[..len],
            gradient: max_gradient,
            scratch: pool,
            out,
        });
        c.level.run(pool::AverageBackward { stride, map, gradient: average_gradient, scratch: pool, out });
    }
}

/// Gradient terms of a group's edges for the pools and for the identity skips.
struct Shared {
    /// Max and average pooling.
    pools: [Pooled; 2],
    /// Edges, and factors `[block]` of their nodes' gradients.
    skip: Vec<(usize, Vec<Pack>)>,
    /// Zeros `[block]`.
    zero: Vec<Pack>,
}

/// Gradient of a pooled feature map.
struct Pooled {
    /// Edges, and factors `[block]` of their nodes' gradients.
    scales: Vec<(usize, Vec<Pack>)>,
    /// Factor `[block]` of the pooled feature map.
    factor: Vec<Pack>,
    /// Constant `[block]`.
    constant: Vec<Pack>,
}

impl Shared {
    fn new(edges: &[FusedEdge], mixture: &[[f32; CANDIDATES]], packs: usize) -> Shared {
        let zero = vec![Pack::ZERO; packs];
        let with = |column: usize| edges.iter().enumerate().filter(move |(_, edge)| edge.is_active(column));
        let pools = [0, 1].map(|which| {
            let (mut factor, mut constant) = (zero.clone(), zero.clone());
            for (_, edge) in with(POOLS[which]) {
                let slope = &edge.pools[which].slope;
                for (total, part) in [(&mut factor, &slope.b), (&mut constant, &slope.c)] {
                    let lanes = floats_mut(total).iter_mut().zip(floats(part));
                    lanes.for_each(|(total, part)| *total += part);
                }
            }
            let scales = with(POOLS[which]).map(|(e, edge)| (e, edge.pools[which].slope.a.clone()));
            Pooled { scales: scales.collect(), factor, constant }
        });
        let identities = with(COLUMNS[0]).filter(|(_, edge)| edge.skip().is_none());
        let scale = |row: usize| vec![Pack([mixture[row][COLUMNS[0]]; LANES]); packs];
        let skip = identities.map(|(e, edge)| (e, scale(edge.row))).collect();
        Shared { pools, skip, zero }
    }
}
