//! From the steps of training to those of evaluation.

use std::collections::{BTreeMap, HashSet};

use crate::kernels::blocked::bf16::{pair_weight, round};
use crate::kernels::blocked::norm::Scaling;
use crate::kernels::blocked::{Channels, LANES, Map, Pack};

use super::super::super::parameters::Id as Weight;
use super::super::super::unit::Columns;
use super::super::{self as network, Network, Slot, Source};
use super::rooms::{Id, Room};
use super::{Form, Layer, Plan, Pool, Precision, Start, Step, Sum, Term};

/// Where a state is.
#[derive(Copy, Clone)]
struct State {
    plain: Id,
    padded: Option<Id>,
}

/// Where the results of a convolution go.
#[derive(Copy, Clone)]
struct Target {
    start: Start,
    plain: Option<Id>,
    padded: Option<Id>,
}

struct Builder<'a> {
    network: &'a Network,
    form: Form,
    plan: Plan,
    /// By buffer and offset.
    states: BTreeMap<(usize, usize), State>,
    /// The states that are wanted padded.
    padded: HashSet<(usize, usize)>,
}

impl Plan {
    /// For a network whose norms are those of evaluation.
    pub(in super::super) fn new(network: &Network, precision: Precision) -> Plan {
        let form = match precision {
            Precision::Float32 => Form::Single,
            Precision::Bf16 if network.level.has_pairs() => Form::Pairs,
            Precision::Bf16 => Form::Rounded,
        };
        let steps = &network.program.steps;
        let padded = |step: &network::Step| match step {
            network::Step::Convolution(c) => match (&c.source, c.unit.columns) {
                (Source::State(slot), Columns::Depthwise(..)) => Some((slot.buffer, slot.offset)),
                _ => None,
            },
            _ => None,
        };
        let padded = (0..steps.len()).filter(|&at| !network.idles(at)).filter_map(|at| padded(&steps[at]));
        let mut builder = Builder {
            network,
            form,
            plan: Plan::default(),
            states: BTreeMap::new(),
            padded: padded.collect(),
        };
        builder.stem();
        for step in steps {
            if let network::Step::Sum(sum) = step {
                builder.sum(sum);
            }
        }
        let last = builder.parts(network.program.last);
        let mut plan = Plan { last, ..builder.plan };
        plan.share_rooms();
        plan
    }
}

impl Builder<'_> {
    fn room(&mut self, map: Map, padded: bool) -> Id {
        self.plan.rooms.push(Room { map, padded });
        self.plan.rooms.len() - 1
    }

    /// A room for a padded state, if it is wanted.
    fn padded(&mut self, place: (usize, usize), map: Map) -> Option<Id> {
        self.padded.contains(&place).then(|| self.room(map, true))
    }

    fn states(&self, slot: Slot) -> impl Iterator<Item = &State> {
        let end = (slot.buffer, slot.offset + slot.map.len());
        self.states.range((slot.buffer, slot.offset)..end).map(|(_, state)| state)
    }

    /// What a slot is made of.
    fn parts(&self, slot: Slot) -> Vec<Id> {
        self.states(slot).map(|state| state.plain).collect()
    }

    fn stem(&mut self) {
        let stem = &self.network.program.stem;
        let (id, scaling) = stem.layer();
        let (weight, bias) = self.folded(id, scaling, 1.0);
        let plain = self.room(stem.map, false);
        let padded = self.padded((0, 0), stem.map);
        self.states.insert((0, 0), State { plain, padded });
        self.plan.steps.push(Step::Layer(Layer {
            form: Form::Single,
            columns: None,
            source: Vec::new(),
            input: stem.map,
            output: stem.map,
            channels: self.network.program.tensors.parameters.channels(id),
            weight,
            bias,
            start: Start::Zero,
            plain: Some(plain),
            padded,
        }));
    }

    /// A weight, and a bias, that include the norm and a factor.
    fn folded(&self, id: Weight, scaling: &Scaling, factor: f32) -> (Vec<Pack>, Vec<Pack>) {
        let parameters = &self.network.program.tensors.parameters;
        let lanes = parameters.channels(id)[0].packs() * LANES;
        let mut weight = parameters.kernel(id).to_vec();
        for (columns, scale) in weight.chunks_exact_mut(lanes).zip(&scaling.scale) {
            for pack in columns {
                (0..LANES).for_each(|lane| pack.0[lane] *= factor * scale.0[lane]);
            }
        }
        (weight, scaling.shift.iter().map(|pack| Pack(pack.0.map(|x| factor * x))).collect())
    }

    /// What a mixture multiplies a step with.
    fn factor(&self, step: usize) -> f32 {
        let mixed = self.network.mixes.then(|| self.network.factors[step].first().copied()).flatten();
        mixed.unwrap_or(1.0)
    }

    fn sum(&mut self, sum: &network::Sum) {
        let (out, map) = (sum.out, sum.out.map);
        let place = (out.buffer, out.offset);
        let mut bias = vec![Pack::ZERO; map.packs];
        let (mut convolutions, mut others) = (Vec::new(), Vec::new());
        for term in &sum.terms {
            match *term {
                network::Term::Made(step) if self.network.idles(step) => (),
                network::Term::Made(step) => match &self.network.program.steps[step] {
                    network::Step::Convolution(_) => convolutions.push(step),
                    _ => others.push(self.term(step, &mut bias)),
                },
                network::Term::State(slot) => others.push(self.plain_term(slot)),
            }
        }
        let passed = match &others[..] {
            [Term { parts, scale }] if bias.iter().all(|b| *b == Pack::ZERO) => match parts[..] {
                [part] if scale.iter().all(|s| *s == Pack::ONE) => Some(part),
                _ => None,
            },
            _ => None,
        };
        let padded = self.padded(place, map);
        // A map that is passed on alone stays where it is.
        let alone = passed.filter(|_| convolutions.is_empty());
        let plain = alone.unwrap_or_else(|| self.room(map, false));
        let mut start = match passed {
            Some(part) => Start::Map(part),
            None if others.is_empty() && !convolutions.is_empty() => Start::Zero,
            None => {
                self.plan.steps.push(Step::Sum(Sum { terms: others, bias, map, out: plain }));
                Start::Plain
            }
        };
        if let (Some(out), true) = (padded, convolutions.is_empty()) {
            self.plan.steps.push(Step::Pad { source: plain, out });
        }
        for (i, &step) in convolutions.iter().enumerate() {
            let padded = padded.filter(|_| i + 1 == convolutions.len());
            self.convolution(step, Target { start, plain: Some(plain), padded });
            start = Start::Plain;
        }
        self.states.insert(place, State { plain, padded });
    }

    fn plain_term(&self, slot: Slot) -> Term {
        Term { parts: self.parts(slot), scale: vec![Pack::ONE; slot.map.packs] }
    }

    /// What is no convolution, as a term; adds its constants to `bias`.
    fn term(&mut self, step: usize, bias: &mut [Pack]) -> Term {
        let mut term = match &self.network.program.steps[step] {
            network::Step::Passing(passing) => self.plain_term(passing.source),
            network::Step::Pool(pool) => {
                let (map, out) = (pool.source.map, self.room(pool.map(), false));
                // A pool reads a single map.
                let source = self.parts(pool.source)[0];
                let (maximum, stride) = (pool.maximum, pool.stride);
                self.plan.steps.push(Step::Pool(Pool { maximum, stride, map, source, out }));
                Term { parts: vec![out], scale: vec![Pack::ONE; map.packs] }
            }
            network::Step::Convolution(_) | network::Step::Sum(_) => {
                Term { parts: Vec::new(), scale: Vec::new() }
            }
        };
        let (factor, scaling) = (self.factor(step), self.network.scaling(step));
        for (block, scale) in term.scale.iter_mut().enumerate() {
            for lane in 0..LANES {
                let (by, plus) =
                    scaling.map_or((1.0, 0.0), |s| (s.scale[block].0[lane], s.shift[block].0[lane]));
                scale.0[lane] = factor * by;
                bias[block].0[lane] += factor * plus;
            }
        }
        term
    }

    fn convolution(&mut self, step: usize, target: Target) {
        let network::Step::Convolution(convolution) = &self.network.program.steps[step] else { return };
        let unit = &convolution.unit;
        let source = match &convolution.source {
            Source::Normed(before) => {
                let padded = Some(self.room(unit.input, true));
                self.convolution(*before, Target { start: Start::Zero, plain: None, padded });
                padded.into_iter().collect()
            }
            Source::State(slot) => match unit.columns {
                Columns::Depthwise(..) => self.states(*slot).filter_map(|state| state.padded).collect(),
                _ => self.parts(*slot),
            },
        };
        let channels = self.network.program.tensors.parameters.channels(unit.pointwise);
        let identity = &self.network.program.identity;
        let scaling = self.network.scaling(step).unwrap_or(identity);
        let (weight, bias) = self.folded(unit.pointwise, scaling, self.factor(step));
        let Target { start, plain, padded } = target;
        self.plan.steps.push(Step::Layer(Layer {
            form: self.form,
            columns: Some(unit.columns),
            source,
            input: unit.input,
            output: unit.output,
            channels,
            weight: formed(weight, self.form, channels[0]),
            bias,
            start,
            plain,
            padded,
        }));
    }
}

fn formed(mut weight: Vec<Pack>, form: Form, inputs: Channels) -> Vec<Pack> {
    match form {
        Form::Single => (),
        Form::Rounded => weight.iter_mut().for_each(|pack| pack.0 = pack.0.map(round)),
        Form::Pairs => return pair_weight(&weight, inputs.packs()),
    }
    weight
}
