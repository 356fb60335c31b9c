//! A cell: two preprocessed inputs, and nodes that each sum the mixed edges from all states before.

use milenas_models::kernels::blocked::elementwise::{Affine, Dots, Gate, Term, WeightedSum};
use milenas_models::kernels::blocked::norm::{Moments, Scaling, Slope, total};
use milenas_models::kernels::blocked::{Channels, LANES, Map, Pack};
use rayon::prelude::*;

use super::context::{Context, Profile};
use super::edge::{COLUMNS, Convolution, Edge, norm_gradient};
use super::norm::{Norm, Statistics};
use super::parameters::{Gradients, Id, Parameters};
use super::state::{Place, State, per_chunk};
use super::unit::{Columns, Unit};
use crate::supernet::CANDIDATES;

/// A part of every image of a batch.
#[derive(Copy, Clone)]
pub(super) struct View<'a> {
    pub(super) packs: &'a [Pack],
    pub(super) place: Place,
    pub(super) map: Map,
}

impl<'a> View<'a> {
    /// The part of image `i`.
    pub(super) fn image(&self, i: usize) -> &'a [Pack] {
        &self.packs[i * self.place.image + self.place.offset..][..self.map.len()]
    }
}

/// A cell of the supernet.
pub(super) struct Cell {
    pub(super) reduction: bool,
    inputs: [Convolution; 2],
    /// The two inputs, then the nodes.
    states: Vec<State>,
    /// `[image]`, then each state.
    values: Vec<Pack>,
    /// `[image]` sums, of whatever phase is at work.
    sums: Vec<Pack>,
}

impl Cell {
    /// Cell `index`, with the channels of its two inputs; the first is halved in size where `halves`.
    pub(super) fn new(
        index: usize,
        (channels, nodes): (usize, usize),
        inputs: [Channels; 2],
        (reduction, halves): (bool, bool),
        parameters: &mut Parameters,
        statistics: &mut Statistics,
    ) -> Cell {
        let packs = Channels::one(channels).packs();
        let inputs = [0, 1].map(|j| {
            let (prefix, from) = (format!("cells.{index}.pre{j}"), inputs[j]);
            let parity = j == 0 && halves;
            let pointwise = if parity {
                parameters.factorized(&prefix, from, channels)
            } else {
                parameters.pointwise(format!("{prefix}.1.weight"), vec![channels, from.count(), 1, 1], from)
            };
            let columns = if parity { Columns::Parity } else { Columns::Rectified };
            let map = |packs| Map { packs, ..Map::default() };
            let unit = Unit { columns, pointwise, input: map(from.packs()), output: map(packs) };
            let norm = if parity { "bn" } else { "2" };
            Convolution { unit, norm: Norm::new(&format!("{prefix}.{norm}"), channels, statistics) }
        });
        let stride = |state: usize| if reduction && state < 2 { 2 } else { 1 };
        let mut states: Vec<State> = (0..2 + nodes).map(|j| State::new(stride(j), packs)).collect();
        let mut row = 0;
        for node in 0..nodes {
            for (j, state) in states[..2 + node].iter_mut().enumerate() {
                let prefix = format!("cells.{index}.edges.{row}");
                let place = (row, node, state.slots());
                state.edges.push(Edge::new(&prefix, place, channels, stride(j), parameters, statistics));
                row += 1;
            }
        }
        Cell { reduction, inputs, states, values: Vec::new(), sums: Vec::new() }
    }

    /// For a batch of inputs of these sizes.
    pub(super) fn resize(&mut self, inputs: [Map; 2], batch: usize) {
        for (input, map) in self.inputs.iter_mut().zip(inputs) {
            input.unit.resize(Map { packs: input.unit.input.packs, ..map });
        }
        let input = self.inputs[1].unit.output;
        for (j, state) in self.states.iter_mut().enumerate() {
            state.resize(if j < 2 { input } else { input.strided(1 + self.reduction as usize) }, batch);
        }
        self.values.resize(batch * self.image_len(), Pack::ZERO);
    }

    /// Packs of all states of an image.
    pub(super) fn image_len(&self) -> usize {
        self.states.iter().map(|s| s.map.len()).sum()
    }

    fn place(&self, state: usize) -> Place {
        let offset = self.states[..state].iter().map(|s| s.map.len()).sum();
        Place { image: self.image_len(), offset }
    }

    /// The nodes, side by side.
    pub(super) fn output(&self) -> View<'_> {
        let nodes = self.states.len() - 2;
        let map = self.states[2].map;
        View { packs: &self.values, place: self.place(2), map: Map { packs: nodes * map.packs, ..map } }
    }

    /// The edge from state `j` to node `node`.
    fn edge(&self, j: usize, node: usize) -> &Edge {
        &self.states[j].edges[node - j.saturating_sub(1)]
    }

    /// The states of a batch.
    pub(super) fn forward(
        &mut self,
        c: &Context<'_>,
        inputs: [View<'_>; 2],
        mixture: &[[f32; CANDIDATES]],
        statistics: &mut Statistics,
        profile: &mut Profile,
    ) {
        profile.time("forward, preprocess", || self.preprocess(c, inputs, statistics));
        for j in 0..self.states.len() {
            let place = self.place(j);
            let (before, rest) = self.states.split_at_mut(j);
            let Some(state) = rest.first_mut() else { break };
            let (map, name) = (state.map, "forward, nodes and first convolutions");
            if let Some(input) = self.inputs.get(j) {
                let Scaling { scale, shift } = &input.norm.scaling;
                let make = |_: usize, _: &[Pack], map_of: &mut [Pack]| {
                    c.level.run(Affine { pixels: map.pixels(), scale, shift, map: map_of });
                };
                profile.time(name, || state.forward(c, &mut self.values, place, make));
            } else {
                let sum = NodeSum::new(before, j - 2, mixture);
                let make = |i: usize, earlier: &[Pack], out: &mut [Pack]| sum.run(c, before, i, earlier, out);
                profile.time(name, || state.forward(c, &mut self.values, place, make));
            }
            if state.edges.is_empty() {
                continue;
            }
            profile.time("forward, norms", || state.normalise(c, false, statistics));
            profile.time("forward, second convolutions", || state.forward_second(c));
            profile.time("forward, norms", || state.normalise(c, true, statistics));
        }
    }

    /// The first two states, not yet normalised, and their norms.
    fn preprocess(&mut self, c: &Context<'_>, inputs: [View<'_>; 2], statistics: &mut Statistics) {
        let (len, second) = (self.image_len(), self.place(1).offset);
        let output = self.inputs[1].unit.output;
        let sums_len = 4 * output.packs;
        self.sums.clear();
        self.sums.resize(c.batch * sums_len, Pack::ZERO);
        let tasks = c.cut(&mut self.values, len).into_par_iter().zip(c.cut(&mut self.sums, sums_len));
        let convolutions = &self.inputs;
        tasks.enumerate().for_each(|(chunk, (values, sums))| {
            let mut scratch = c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let sums = &mut sums[at * sums_len..][..sums_len];
                for (j, (convolution, input)) in convolutions.iter().zip(inputs).enumerate() {
                    let out = &mut values[at * len + j * second..][..output.len()];
                    let sums = &mut sums[j * 2 * output.packs..];
                    convolution.unit.forward(
                        c.level,
                        c.parameters,
                        input.image(i),
                        &mut scratch.strip,
                        out,
                        sums,
                    );
                }
            }
        });
        let count = (c.batch * output.pixels()) as f64;
        for (j, convolution) in self.inputs.iter_mut().enumerate() {
            if c.training {
                let [sum, square] = [0, 1].map(|k| totals(&self.sums, sums_len, 2 * j + k, output.packs));
                convolution.norm.train(&Moments::of(sum, square, count), count, statistics);
            } else {
                convolution.norm.evaluate(statistics);
            }
        }
    }

    /// Back through the edges, for the gradients of the nodes in `gradients` (`[image]`, then each state), down to
    /// the states from `first` on. Adds to the mixture's gradient.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward(
        &mut self,
        c: &Context<'_>,
        gradients: &mut [Pack],
        mixture: &[[f32; CANDIDATES]],
        first: usize,
        mut weights: Option<&mut Gradients>,
        mixture_gradient: &mut [[f64; CANDIDATES]],
        profile: &mut Profile,
    ) {
        for j in (first..self.states.len()).rev() {
            let (place, nodes) = (self.place(j), self.place(2));
            if !self.states[j].edges.is_empty() {
                let state = &mut self.states[j];
                profile.time("backward, second convolutions", || {
                    state.backward_second(c, gradients, nodes, weights.as_deref_mut());
                });
                profile.time("backward, norms", || state.slope_firsts(c));
                let ids = state.ids(true);
                gather(c, weights.as_deref_mut(), &ids, profile);
            }
            let state = &self.states[j];
            let map_packs = state.map.packs;
            let sums_len = (1 + if j < 2 { 1 } else { COLUMNS.len() * j }) * map_packs;
            let mut sums = std::mem::take(&mut self.sums);
            sums.resize(c.batch * sums_len, Pack::ZERO);
            let node = j.saturating_sub(1);
            let (ids, after) = (state.ids(false), (node, self.place(2 + node)));
            let finish = |i: usize, own: &[Pack], out: &mut [Pack]| self.products(c, j, i, own, out);
            profile.time("backward, first convolutions and pools", || {
                let weights = weights.as_deref_mut();
                let (values, add) = (&self.values, j >= 2);
                state.backward(
                    c,
                    mixture,
                    (values, gradients),
                    place,
                    after,
                    add,
                    weights,
                    (&mut sums, sums_len),
                    finish,
                );
            });
            gather(c, weights.as_deref_mut(), &ids, profile);
            self.sums = sums;
            profile.time("backward, norms", || self.slopes(c, j, sums_len, mixture, mixture_gradient));
        }
    }

    /// Sums over an image of the gradient of state `j` and of its products with all that entered the state.
    fn products(&self, c: &Context<'_>, j: usize, i: usize, own: &[Pack], out: &mut [Pack]) {
        let value = |k: usize| {
            let place = self.place(k);
            &self.values[i * place.image + place.offset..][..self.states[k].map.len()]
        };
        let of = |k: usize| {
            let state = &self.states[k];
            self.edge(k, j - 2).maps(state.maps(i), value(k), state.node.len())
        };
        let right: Vec<&[Pack]> = if j < 2 { vec![value(j)] } else { (0..j).flat_map(of).collect() };
        c.level.run(Dots { pixels: self.states[j].map.pixels(), left: own, right: &right, out });
    }

    /// The slopes of all norms that state `j` is made of, and the gradients of their weights in the mixture.
    fn slopes(
        &mut self,
        c: &Context<'_>,
        j: usize,
        sums_len: usize,
        mixture: &[[f32; CANDIDATES]],
        mixture_gradient: &mut [[f64; CANDIDATES]],
    ) {
        let Cell { states, sums, inputs, .. } = self;
        let map = states[j].map;
        let count = (c.batch * map.pixels()) as f64;
        let sum = totals(sums, sums_len, 0, map.packs);
        if let Some(input) = inputs.get_mut(j) {
            // The state holds the normalised values, not those before the norm.
            let dot = totals(sums, sums_len, 1, map.packs);
            let mut slope = Slope::of(&Scaling::identity(map.packs), 1.0, &sum, &dot, count).0;
            slope.scale_by(&input.norm.scaling.scale);
            input.norm.slope = slope;
            return;
        }
        let edges =
            states[..j].iter_mut().enumerate().map(|(k, s)| (k, &mut s.edges[j - 2 - k.saturating_sub(1)]));
        let mut edges: Vec<_> = edges.zip(std::iter::repeat_with(|| [0.0; CANDIDATES])).collect();
        edges.par_iter_mut().for_each(|((k, edge), gradient)| {
            let row = edge.row;
            for (m, (norm, column)) in edge.norms_mut().into_iter().zip(COLUMNS).enumerate() {
                let dot = totals(sums, sums_len, 1 + *k * COLUMNS.len() + m, map.packs);
                gradient[column] = match norm {
                    Some(norm) => {
                        let weight = f64::from(mixture[row][column]);
                        let (slope, total) = Slope::of(&norm.scaling, weight, &sum, &dot, count);
                        norm.slope = slope;
                        total
                    }
                    None => dot.iter().sum(),
                };
            }
        });
        for ((_, edge), gradient) in edges {
            mixture_gradient[edge.row].iter_mut().zip(gradient).for_each(|(total, part)| *total += part);
        }
    }

    /// Back through the preprocessing of input `j`, for the gradients of this cell's states, to those of the input;
    /// these are added to where `add`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward_input(
        &self,
        c: &Context<'_>,
        j: usize,
        input: View<'_>,
        gradients: &[Pack],
        (out, place): (&mut [Pack], Place),
        add: bool,
        mut weights: Option<&mut Gradients>,
        profile: &mut Profile,
    ) {
        let Convolution { unit, norm } = &self.inputs[j];
        let own = View { packs: gradients, place: self.place(j), map: unit.output };
        let values = View { packs: &self.values, ..own };
        let ids: Vec<_> = unit.ids().collect();
        profile.time("backward, preprocess", || {
            let tasks =
                c.cut(out, place.image).into_par_iter().zip(per_chunk(c, weights.as_deref_mut(), &ids));
            tasks.enumerate().for_each(|(chunk, (out, mut weights))| {
                let scratch = &mut *c.workspace.scratch();
                for (at, i) in c.images(chunk).enumerate() {
                    let source = input.image(i);
                    let mut rest = weights.as_deref_mut();
                    norm_gradient(c.level, unit.output, norm, own.image(i), values.image(i), &mut scratch.dy);
                    unit.backward(c.level, c.parameters, source, scratch, &mut rest);
                    unit.backward_columns(c.level, c.parameters, scratch, false);
                    let out = &mut out[at * place.image + place.offset..][..input.map.len()];
                    c.level.run(Gate { gradient: &scratch.da, source, add, out });
                }
            });
        });
        gather(c, weights, &ids, profile);
    }
}

/// A node's value as one weighted sum over the maps of all its edges.
struct NodeSum {
    /// `[map][block]`, seven maps an edge.
    scales: Vec<Vec<Pack>>,
    bias: Vec<Pack>,
    node: usize,
}

impl NodeSum {
    /// For node `node`, whose edges come from all of `states`.
    fn new(states: &[State], node: usize, mixture: &[[f32; CANDIDATES]]) -> NodeSum {
        let packs = states[0].node.packs;
        let mut out = NodeSum { scales: Vec::new(), bias: vec![Pack::ZERO; packs], node };
        for (j, state) in states.iter().enumerate() {
            let edge = &state.edges[node - j.saturating_sub(1)];
            for (norm, column) in edge.norms().into_iter().zip(COLUMNS) {
                let weight = mixture[edge.row][column];
                let mut scale = vec![Pack([weight; LANES]); packs];
                if let Some(norm) = norm {
                    for block in 0..packs {
                        for lane in 0..LANES {
                            scale[block].0[lane] *= norm.scaling.scale[block].0[lane];
                            out.bias[block].0[lane] += weight * norm.scaling.shift[block].0[lane];
                        }
                    }
                }
                out.scales.push(scale);
            }
        }
        out
    }

    /// The node of image `i`, whose states so far are `earlier`.
    fn run(&self, c: &Context<'_>, states: &[State], i: usize, mut earlier: &[Pack], out: &mut [Pack]) {
        let mut maps = Vec::with_capacity(self.scales.len());
        for (j, state) in states.iter().enumerate() {
            let (value, rest) = earlier.split_at(state.map.len());
            earlier = rest;
            let edge = &state.edges[self.node - j.saturating_sub(1)];
            maps.extend(edge.maps(state.maps(i), value, state.node.len()));
        }
        let terms: Vec<Term<'_>> =
            self.scales.iter().zip(maps).map(|(scale, map)| Term { scale, map }).collect();
        c.level.run(WeightedSum { map: states[0].node, terms: &terms, bias: Some(&self.bias), out });
    }
}

/// Adds up what the chunks found for the gradients of `ids`.
fn gather(c: &Context<'_>, weights: Option<&mut Gradients>, ids: &[Id], profile: &mut Profile) {
    if let Some(weights) = weights {
        profile
            .time("backward, weight gradients of chunks", || weights.gather(c.parameters, ids, c.chunks()));
    }
}

/// Lane by lane, the sums over images of `packs` packs at `[image][which]`.
fn totals(sums: &[Pack], len: usize, which: usize, packs: usize) -> Vec<f64> {
    total(sums.chunks_exact(len).map(|image| &image[which * packs..][..packs]), packs)
}
