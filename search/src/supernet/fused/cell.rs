//! Cell: two preprocessed inputs, and nodes that each sum the mixed edges from all earlier states.

mod inputs;

use milenas_models::fused::parameters::Id;
use milenas_models::fused::{ConvBlock, Gradients, Im2col, MapView, Norm, Parameters, Profile, Statistics};
use milenas_models::kernels::cpu::{Channels, MapSize, Pack};

use super::context::CellContext;
use super::edge::{EdgeConv, FusedEdge, halves_of};
use super::partial::{self, Partial, Past, StateViews, WorkingState};
use super::state::{FusedState, StateOffset};
use crate::supernet::wired::CANDIDATES;

/// Cell of the supernet.
pub(super) struct FusedCell {
    pub(super) reduction: bool,
    inputs: [EdgeConv; 2],
    /// Sizes of the states: the two inputs, then the nodes.
    maps: Vec<MapSize>,
    /// States as the candidates see them: whole, or their first channels.
    states: Vec<FusedState>,
    /// Bypass of partial channels; `None` for whole states.
    partial: Option<Partial>,
    channels: usize,
    /// Values `[image]`, then each state.
    values: Vec<Pack>,
    /// Sums `[image]` of the current phase.
    sums: Vec<Pack>,
}

impl FusedCell {
    /// Creates cell `index`, with the channels of its two inputs. The first input is halved in size if
    /// `halves`.
    pub(super) fn new(
        index: usize,
        (channels, nodes, parts): (usize, usize, usize),
        inputs: [Channels; 2],
        (reduction, halves): (bool, bool),
        parameters: &mut Parameters,
        statistics: &mut Statistics,
    ) -> FusedCell {
        let packs = Channels::one(channels).packs();
        let inputs = [0, 1].map(|j| {
            let (prefix, from) = (format!("cells.{index}.pre{j}"), inputs[j]);
            let parity = j == 0 && halves;
            let pointwise = if parity {
                parameters.factorized(halves_of(&prefix), from, channels)
            } else {
                parameters.pointwise(format!("{prefix}.1.weight"), vec![channels, from.count(), 1, 1], from)
            };
            let columns = if parity { Im2col::Parity } else { Im2col::AfterRelu };
            let map = |packs| MapSize { packs, ..MapSize::default() };
            let unit = ConvBlock { columns, pointwise, input: map(from.packs()), output: map(packs) };
            let norm = if parity { "bn" } else { "2" };
            EdgeConv { unit, norm: Norm::new(&format!("{prefix}.{norm}"), channels, statistics) }
        });
        let stride = |state: usize| if reduction && state < 2 { 2 } else { 1 };
        let part = Channels::one(channels / parts).packs();
        let mut states: Vec<FusedState> = (0..2 + nodes).map(|j| FusedState::new(stride(j), part)).collect();
        let mut row = 0;
        for node in 0..nodes {
            for (j, state) in states[..2 + node].iter_mut().enumerate() {
                let prefix = format!("cells.{index}.edges.{row}");
                state.edges.push(FusedEdge::new(
                    &prefix,
                    (row, node),
                    channels / parts,
                    stride(j),
                    parameters,
                    statistics,
                ));
                row += 1;
            }
        }
        let maps = vec![MapSize { packs, ..MapSize::default() }; states.len()];
        let partial = (parts > 1).then(|| Partial::new(parts));
        FusedCell { reduction, inputs, maps, states, partial, channels, values: Vec::new(), sums: Vec::new() }
    }

    /// Allocates buffers for a batch of inputs of the given sizes.
    pub(super) fn resize(&mut self, inputs: [MapSize; 2], batch: usize, parameters: &mut Parameters) {
        for (input, map) in self.inputs.iter_mut().zip(inputs) {
            input.unit.resize(MapSize { packs: input.unit.input.packs, ..map });
        }
        let input = self.inputs[1].unit.output;
        for (j, (state, map)) in self.states.iter_mut().zip(&mut self.maps).enumerate() {
            let size = if j < 2 { input } else { input.strided(1 + self.reduction as usize) };
            *map = MapSize { packs: map.packs, ..size };
            state.resize(size);
        }
        let part = self.part_place(0).image;
        if let Some(partial) = &mut self.partial {
            partial.resize(batch, self.channels, part, self.maps[2], self.reduction);
            for state in &mut self.states {
                state.copies = partial.copies;
                let convolutions = state.edges.iter().flat_map(|edge| &edge.convolutions);
                convolutions.flat_map(|x| x.unit.ids()).for_each(|id| parameters.repeat(id, partial.copies));
            }
        }
        self.values.resize(batch * self.image_len(), Pack::ZERO);
    }

    /// Returns the number of packs of all states of an image.
    pub(super) fn image_len(&self) -> usize {
        self.maps.iter().map(|map| map.len()).sum()
    }

    /// Returns the parameters without a part in the mixture of the last forward pass.
    pub(super) fn idle(&self) -> impl Iterator<Item = Id> {
        self.states.iter().flat_map(|state| &state.edges).flat_map(FusedEdge::idle)
    }

    fn place(&self, state: usize) -> StateOffset {
        StateOffset::among(self.maps.iter().copied(), state)
    }

    /// Returns the location of the part of a state that candidates see.
    fn part_place(&self, state: usize) -> StateOffset {
        StateOffset::among(self.states.iter().map(|state| state.map), state)
    }

    fn at(&self, state: usize) -> WorkingState {
        let places = StateViews { whole: self.place(state), part: self.part_place(state) };
        WorkingState { state, map: self.maps[state], node: self.maps[2], places }
    }

    /// Returns the bypasses of a node: from states of its own size, and from states of twice its size.
    fn past(&self, c: &CellContext<'_>, node: usize) -> [(Past, bool); 2] {
        let mut past = [(Past::new(), false), (Past::new(), true)];
        for (j, state) in self.states[..node].iter().enumerate() {
            let halved = j < 2 && self.maps[j].pixels() != self.maps[2].pixels();
            let offset = if halved { j * self.maps[2].len() } else { self.place(j).offset };
            let edges = state.edges.iter().filter(|edge| edge.target + 2 == node);
            past[usize::from(halved)]
                .0
                .extend(edges.map(|edge| (offset, partial::past(&c.mixture[edge.row]))));
        }
        past
    }

    /// Returns the bypasses from a state to nodes.
    fn past_to(&self, c: &CellContext<'_>, state: usize) -> Past {
        let edges = self.states[state].edges.iter();
        edges.map(|edge| (self.place(2 + edge.target).offset, partial::past(&c.mixture[edge.row]))).collect()
    }

    /// Returns the nodes, concatenated.
    pub(super) fn output(&self) -> MapView<'_> {
        let nodes = self.states.len() - 2;
        let map = self.maps[2];
        MapView {
            packs: &self.values,
            place: self.place(2).into(),
            map: MapSize { packs: nodes * map.packs, ..map },
        }
    }

    /// Computes the states of a batch.
    pub(super) fn forward(
        &mut self,
        c: &CellContext<'_>,
        inputs: [MapView<'_>; 2],
        statistics: &mut Statistics,
        profile: &mut Profile,
    ) {
        let outer = c;
        let inner = self.partial.as_ref().map_or(*c, |partial| partial.context(c));
        self.states.iter_mut().for_each(|state| state.activate(c.mixture, inner.batch));
        profile.time("forward, preprocess", || self.preprocess(c, inputs, statistics));
        for j in 0..self.states.len() {
            let (place, c) = (self.part_place(j), &inner);
            if self.partial.is_some() {
                profile.time("forward, past candidates", || self.forward_past(outer, j));
            }
            let (state, values) = match &mut self.partial {
                Some(partial) => (&mut self.states[j], &mut partial.values),
                None => (&mut self.states[j], &mut self.values),
            };
            for group in state.groups(c) {
                let of = || group.clone();
                profile.time("forward, first convolutions", || state.forward_first(c, of(), values, place));
                profile.time("forward, norms", || state.normalise(c, of(), false, statistics));
                profile.time("forward, second convolutions", || state.forward_second(c, of()));
                profile.time("forward, norms", || state.normalise(c, of(), true, statistics));
                let values = (&mut values[..], place);
                profile.time("forward, sums", || state.forward_sum(c, of(), values, j > 0));
            }
        }
    }

    /// Runs the edges backward, from the gradients of the nodes in `gradients` (`[image]`, then each state) to
    /// those of the states from `first` on. Adds to the mixture's gradient.
    pub(super) fn backward(
        &mut self,
        outer: &CellContext<'_>,
        (outer_gradients, pools): (&mut [Pack], &mut Vec<Pack>),
        first: usize,
        mut weights: Option<&mut Gradients>,
        mixture_gradient: &mut [[f64; CANDIDATES]],
        profile: &mut Profile,
    ) {
        let inner = self.partial.as_ref().map_or(*outer, |partial| partial.context(outer));
        let whole = self.partial.is_none();
        for j in (0..self.states.len()).rev() {
            let (place, c) = (self.part_place(j), &inner);
            if !whole {
                profile.time("backward, past candidates", || {
                    self.backward_dots_past(outer, j, outer_gradients, mixture_gradient);
                });
            }
            let state = &mut self.states[j];
            let (values, gradients) = match &mut self.partial {
                Some(partial) => (&partial.values, &mut partial.gradients[..]),
                None => (&self.values, &mut *outer_gradients),
            };
            pools.resize(c.batch * 2 * state.node.len(), Pack::ZERO);
            for group in state.groups(c) {
                let of = || group.clone();
                let both = (&values[..], &gradients[..]);
                profile.time("backward, sums", || state.backward_dots(c, of(), both, place));
                profile.time("backward, norms", || state.slopes(c, of(), mixture_gradient));
                if j < first {
                    continue;
                }
                profile.time("backward, second convolutions", || {
                    state.backward_second(c, of(), (gradients, place), weights.as_deref_mut());
                });
                profile.time("backward, norms", || state.slope_firsts(c, of()));
                gather(c, weights.as_deref_mut(), &state.ids(of(), true), profile);
                let add = (j >= 2 && whole) || group.start > 0;
                let all = (&values[..], &mut gradients[..], &mut pools[..]);
                profile.time("backward, first convolutions and pools", || {
                    state.backward_first(c, of(), all, place, add, weights.as_deref_mut());
                });
                gather(c, weights.as_deref_mut(), &state.ids(of(), false), profile);
            }
            if !whole {
                profile.time("backward, past candidates", || {
                    self.backward_past(outer, j, outer_gradients, j >= first);
                });
            }
        }
    }

    /// Completes state `j` by its bypasses, and copies the candidates' part of it.
    fn forward_past(&mut self, c: &CellContext<'_>, j: usize) {
        let (at, past) = (self.at(j), self.past(c, j));
        if let Some(partial) = &mut self.partial {
            partial.forward(c, at, &mut self.values, &past);
        }
    }

    /// Adds the mixture's gradient by the bypass of state `j`, whose weight is the sum of the candidates'
    /// weights.
    fn backward_dots_past(
        &mut self,
        c: &CellContext<'_>,
        j: usize,
        gradients: &[Pack],
        mixture_gradient: &mut [[f64; CANDIDATES]],
    ) {
        let (at, past) = (self.at(j), self.past_to(c, j));
        let Some(partial) = &self.partial else { return };
        let dots = partial.dots(c, at, (&self.values, gradients), &past, &mut self.sums);
        for (edge, dot) in self.states[j].edges.iter().zip(dots) {
            let row = mixture_gradient[edge.row].iter_mut().zip(&c.mixture[edge.row]);
            row.filter(|(_, weight)| **weight != 0.0).for_each(|(total, _)| *total += dot);
        }
    }

    /// Computes the gradient of state `j` from its candidates' part, if that is `wanted`, and from its
    /// bypasses; then the gradient of the part that its own edges wrote.
    fn backward_past(&mut self, c: &CellContext<'_>, j: usize, gradients: &mut [Pack], wanted: bool) {
        let (at, past) = (self.at(j), self.past_to(c, j));
        let Some(partial) = &mut self.partial else { return };
        if wanted && !past.is_empty() {
            partial.backward(c, at, (&self.values, gradients), &past);
        }
        if j >= 2 {
            partial.part_gradient(c, at, gradients);
        }
    }

    /// Lends the feature maps of a state for other uses, after the backward pass of the cell's edges. They must
    /// be returned.
    pub(super) fn lend(&mut self, state: usize) -> &mut Vec<Pack> {
        &mut self.states[state].maps
    }
}

/// Sums the gradients of `ids` over the chunks.
fn gather(c: &CellContext<'_>, weights: Option<&mut Gradients>, ids: &[Id], profile: &mut Profile) {
    if let Some(weights) = weights {
        profile
            .time("backward, weight gradients of chunks", || weights.gather(c.parameters, ids, c.chunks()));
    }
}
