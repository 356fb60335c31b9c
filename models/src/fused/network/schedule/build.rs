//! Conversion of the training steps to evaluation steps.

use std::collections::{BTreeMap, HashMap};

use crate::kernels::cpu::bf16::{pair_weight, round};
use crate::kernels::cpu::norm::Scaling;
use crate::kernels::cpu::{Channels, LANES, MapSize, Pack};

use super::super::super::parameters::Id as Weight;
use super::super::super::unit::Im2col;
use super::super::{self as network, ConvSource, FusedNetwork, MapSlot};
use super::buffers::{BufferSize, Id};
use super::wanted::ReadSlots;
use super::{
    ConvLayer, EvalPool, EvalStep, EvalSum, EvalTerm, FactorBuffer, FactorStorage, Precision, Schedule,
    SumStart,
};

/// Buffers of a state.
#[derive(Copy, Clone)]
struct BuildState {
    plain: Id,
    padded: Option<Id>,
}

/// Destinations of the results of a convolution.
#[derive(Copy, Clone)]
struct BuildTarget {
    start: SumStart,
    plain: Option<Id>,
    padded: Option<Id>,
    factors: Option<FactorBuffer>,
}

struct ScheduleBuilder<'a> {
    network: &'a FusedNetwork,
    form: FactorStorage,
    schedule: Schedule,
    /// States by buffer and offset.
    states: BTreeMap<(usize, usize), BuildState>,
    wanted: ReadSlots,
    /// Buffer of the operands of each state buffer.
    factors: HashMap<usize, Id>,
}

impl Schedule {
    /// Makes the schedule of a network whose norms are in evaluation mode.
    pub(in super::super) fn new(network: &FusedNetwork, precision: Precision) -> Schedule {
        let form = match precision {
            Precision::Float32 => FactorStorage::Single,
            Precision::Bf16 if network.level.has_pairs() => FactorStorage::Pairs,
            Precision::Bf16 => FactorStorage::Rounded,
        };
        let steps = &network.program.steps;
        let mut builder = ScheduleBuilder {
            network,
            form,
            schedule: Schedule { form, ..Schedule::default() },
            states: BTreeMap::new(),
            wanted: ReadSlots::new(network, form),
            factors: HashMap::new(),
        };
        builder.stem();
        for step in steps {
            if let network::TrainStep::Sum(sum) = step {
                builder.sum(sum);
            }
        }
        let last = builder.parts(network.program.last);
        let mut schedule = Schedule { last, ..builder.schedule };
        let (maps, last) = (schedule.accesses(), schedule.last.clone());
        schedule.share_buffers();
        debug_assert_eq!(schedule.check_sharing(&maps, &last), Ok(()));
        schedule
    }
}

impl ScheduleBuilder<'_> {
    fn buffer(&mut self, map: MapSize, padded: bool) -> Id {
        self.schedule.buffers.push(BufferSize { map, padded });
        self.schedule.buffers.len() - 1
    }

    /// Returns a buffer for the padded form of a state, if it is read.
    fn padded(&mut self, slot: MapSlot) -> Option<Id> {
        self.wanted.padded(slot).then(|| self.buffer(slot.map, true))
    }

    /// Returns the location of a slot's operands. All parts of a concatenation have the same size.
    fn factors_of(&mut self, slot: MapSlot) -> FactorBuffer {
        let part = Channels::one(slot.channels.each);
        let (len, packs) = (slot.map.pixels() * part.packs(), part.shared(self.form.share()));
        let parts = (self.network.program.images[slot.buffer] / len).max(1);
        let map = MapSize { packs: parts * packs, ..slot.map };
        let buffer = match self.factors.get(&slot.buffer) {
            Some(buffer) => *buffer,
            None => self.buffer(map, false),
        };
        self.factors.insert(slot.buffer, buffer);
        FactorBuffer { buffer, before: slot.offset / len * packs }
    }

    /// Returns the location of a slot's operands, if they are read.
    fn factors(&mut self, slot: MapSlot) -> Option<FactorBuffer> {
        self.wanted.factors(slot).then(|| self.factors_of(slot))
    }

    fn states(&self, slot: MapSlot) -> impl Iterator<Item = &BuildState> {
        let end = (slot.buffer, slot.offset + slot.map.len());
        self.states.range((slot.buffer, slot.offset)..end).map(|(_, state)| state)
    }

    /// Returns the parts of a slot.
    fn parts(&self, slot: MapSlot) -> Vec<Id> {
        self.states(slot).map(|state| state.plain).collect()
    }

    fn stem(&mut self) {
        let stem = &self.network.program.stem;
        let (id, scaling) = stem.layer();
        let (weight, bias) = self.folded(id, scaling, 1.0);
        let plain = self.buffer(stem.map, false);
        let channels = self.network.program.tensors.parameters.channels(id);
        let slot = MapSlot { buffer: 0, offset: 0, map: stem.map, channels: channels[1] };
        let padded = self.padded(slot);
        self.states.insert((0, 0), BuildState { plain, padded });
        self.schedule.steps.push(EvalStep::Layer(Box::new(ConvLayer {
            name: self.network.program.tensors.parameters.name_of(id).into(),
            form: FactorStorage::Single,
            columns: None,
            ready: None,
            source: Vec::new(),
            input: stem.map,
            output: stem.map,
            channels,
            weight,
            bias,
            start: SumStart::Zero,
            plain: Some(plain),
            padded,
            factors: None,
        })));
        if let Some(out) = self.factors(slot) {
            self.schedule.steps.push(EvalStep::Relu { source: plain, out });
        }
    }

    /// Returns weight and bias with the norm and a factor folded in.
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

    /// Returns the mixture weight of a step.
    fn factor(&self, step: usize) -> f32 {
        let mixed = self.network.mixes.then(|| self.network.factors[step].first().copied()).flatten();
        mixed.unwrap_or(1.0)
    }

    fn sum(&mut self, sum: &network::SumStep) {
        let (out, map) = (sum.out, sum.out.map);
        let place = (out.buffer, out.offset);
        let mut bias = vec![Pack::ZERO; map.packs];
        let (mut convolutions, mut others) = (Vec::new(), Vec::new());
        for term in &sum.terms {
            match *term {
                network::SumTerm::Made(step) if self.network.idles(step) => (),
                network::SumTerm::Made(step) => match &self.network.program.steps[step] {
                    network::TrainStep::Convolution(_) => convolutions.push(step),
                    _ => others.push(self.term(step, &mut bias)),
                },
                network::SumTerm::State(slot) => others.push(self.plain_term(slot)),
            }
        }
        let passed = match &others[..] {
            [EvalTerm { parts, scale }] if bias.iter().all(|b| *b == Pack::ZERO) => match parts[..] {
                [part] if scale.iter().all(|s| *s == Pack::ONE) => Some(part),
                _ => None,
            },
            _ => None,
        };
        let (padded, factors) = (self.padded(out), self.factors(out));
        // If the sum is a single unchanged feature map, it stays in its buffer.
        let alone = passed.filter(|_| convolutions.is_empty());
        let plain = alone.unwrap_or_else(|| self.buffer(map, false));
        let mut start = match passed {
            Some(part) => SumStart::Map(part),
            None if others.is_empty() && !convolutions.is_empty() => SumStart::Zero,
            None => {
                self.schedule.steps.push(EvalStep::Sum(EvalSum { terms: others, bias, map, out: plain }));
                SumStart::Plain
            }
        };
        if let (Some(out), true) = (padded, convolutions.is_empty()) {
            self.schedule.steps.push(EvalStep::Pad { source: plain, out });
        }
        if let (Some(out), true) = (factors, convolutions.is_empty()) {
            self.schedule.steps.push(EvalStep::Relu { source: plain, out });
        }
        if let Some((&last, others)) = convolutions.split_last() {
            for &step in others {
                let (padded, factors) = (None, None);
                self.convolution(step, BuildTarget { start, plain: Some(plain), padded, factors });
                start = SumStart::Plain;
            }
            let to = match start {
                _ if self.wanted.plain(out) => Some(plain),
                SumStart::Plain => {
                    start = SumStart::Map(plain);
                    None
                }
                _ => None,
            };
            self.convolution(last, BuildTarget { start, plain: to, padded, factors });
        }
        self.states.insert(place, BuildState { plain, padded });
    }

    fn plain_term(&self, slot: MapSlot) -> EvalTerm {
        EvalTerm { parts: self.parts(slot), scale: vec![Pack::ONE; slot.map.packs] }
    }

    /// Returns the result of a step other than a convolution as a term, and adds its constants to `bias`.
    fn term(&mut self, step: usize, bias: &mut [Pack]) -> EvalTerm {
        let mut term = match &self.network.program.steps[step] {
            network::TrainStep::Passing(passing) => self.plain_term(passing.source),
            network::TrainStep::Pool(pool) => {
                let (map, out) = (pool.source.map, self.buffer(pool.map(), false));
                // A pool reads a single feature map.
                let source = self.parts(pool.source)[0];
                let (maximum, stride) = (pool.maximum, pool.stride);
                self.schedule.steps.push(EvalStep::Pool(EvalPool { maximum, stride, map, source, out }));
                EvalTerm { parts: vec![out], scale: vec![Pack::ONE; map.packs] }
            }
            network::TrainStep::Convolution(_) | network::TrainStep::Sum(_) => {
                EvalTerm { parts: Vec::new(), scale: Vec::new() }
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

    fn convolution(&mut self, step: usize, target: BuildTarget) {
        let network::TrainStep::Convolution(convolution) = &self.network.program.steps[step] else { return };
        let unit = &convolution.unit;
        let mut ready = None;
        let source = match &convolution.source {
            ConvSource::Normed(before) => {
                let padded = Some(self.buffer(unit.input, true));
                self.convolution(
                    *before,
                    BuildTarget { start: SumStart::Zero, plain: None, padded, factors: None },
                );
                padded.into_iter().collect()
            }
            ConvSource::State(slot) => match unit.columns {
                Im2col::Depthwise(..) => self.states(*slot).filter_map(|state| state.padded).collect(),
                columns if self.form.ready(columns) => {
                    ready = Some(self.factors_of(*slot));
                    Vec::new()
                }
                _ => self.parts(*slot),
            },
        };
        let channels = self.network.program.tensors.parameters.channels(unit.pointwise);
        let identity = &self.network.program.identity;
        let scaling = self.network.scaling(step).unwrap_or(identity);
        let (weight, bias) = self.folded(unit.pointwise, scaling, self.factor(step));
        let BuildTarget { start, plain, padded, factors } = target;
        self.schedule.steps.push(EvalStep::Layer(Box::new(ConvLayer {
            name: self.network.program.tensors.parameters.name_of(unit.pointwise).into(),
            form: self.form,
            columns: Some(unit.columns),
            ready,
            source,
            input: unit.input,
            output: unit.output,
            channels,
            weight: formed(weight, self.form, channels[0]),
            bias,
            start,
            plain,
            padded,
            factors,
        })));
    }
}

fn formed(mut weight: Vec<Pack>, form: FactorStorage, inputs: Channels) -> Vec<Pack> {
    match form {
        FactorStorage::Single => (),
        FactorStorage::Rounded => weight.iter_mut().for_each(|pack| pack.0 = pack.0.map(round)),
        FactorStorage::Pairs => return pair_weight(&weight, inputs),
    }
    weight
}
