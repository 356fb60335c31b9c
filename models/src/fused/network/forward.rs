//! Forward pass of the steps.

use rayon::prelude::*;

use crate::kernels::cpu::elementwise::{Dots, PadRelu, ScaledMap as Addend, WeightedSum};
use crate::kernels::cpu::norm::{NormMoments, Scaling};
use crate::kernels::cpu::{LANES, Pack, pool};

use super::super::context::PassContext;
use super::super::norm::totals;
use super::super::scratch::Scratch;
use super::super::tensors::NetworkTensors;
use super::super::unit::Im2col;
use super::{ConvSource, ConvStep, FusedNetwork, Maps, Passing, PoolStep, SumStep, SumTerm, TrainStep};

impl FusedNetwork {
    /// Computes the logits of a batch in training mode, and those of the auxiliary head if `auxiliary`.
    pub(super) fn forward(&mut self, images: &[f32], batch: usize, auxiliary: bool) {
        self.workspace.prepare();
        self.program.tensors.parameters.refresh();
        let mut maps = std::mem::take(&mut self.maps);
        self.resize(&mut maps, batch);
        let mut profile = std::mem::take(&mut self.profile);
        let (level, parameters, workspace) = (self.level, &self.program.tensors.parameters, &self.workspace);
        let c = PassContext { level, parameters, workspace, batch, training: true };
        let (stem, statistics) = (&mut self.program.stem, &mut self.program.tensors.statistics);
        profile.time("forward, stem", || stem.forward(&c, images, statistics, &mut maps.states[0]));
        for at in 0..self.program.steps.len() {
            let name = match self.program.steps[at] {
                TrainStep::Convolution(_) => "forward, convolutions",
                TrainStep::Pool(_) => "forward, pools",
                TrainStep::Passing(_) | TrainStep::Sum(_) => "forward, sums",
            };
            profile.time(name, || self.step(&self.context(batch), at, &mut maps));
            profile.time("forward, norms", || self.normalise(at, &maps));
        }
        let last = self.view(&maps.states, self.program.last);
        self.program.head.forward(&self.program.tensors.parameters, last, batch);
        if let (true, Some((mut head, slot))) = (auxiliary, self.program.auxiliary.take()) {
            let input = self.view(&maps.states, slot);
            let NetworkTensors { parameters, statistics, .. } = &mut self.program.tensors;
            profile.time("forward, auxiliary", || head.forward(parameters, input, batch, statistics));
            self.program.auxiliary = Some((head, slot));
        }
        (self.maps, self.profile) = (maps, profile);
    }

    fn resize(&self, maps: &mut Maps, batch: usize) {
        if maps.batch == batch {
            return;
        }
        maps.states.resize_with(self.program.images.len(), Vec::new);
        for (state, len) in maps.states.iter_mut().zip(&self.program.images) {
            state.resize(batch * len, Pack::ZERO);
        }
        maps.made.resize_with(self.program.steps.len(), Vec::new);
        for (step, made) in self.program.steps.iter().zip(&mut maps.made) {
            made.resize(batch * step.made(), Pack::ZERO);
        }
        self.resize_sums(maps, batch);
    }

    pub(super) fn resize_sums(&self, maps: &mut Maps, batch: usize) {
        if maps.batch == batch {
            return;
        }
        maps.batch = batch;
        maps.sums.resize_with(self.program.steps.len(), Vec::new);
        for (step, sums) in self.program.steps.iter().zip(&mut maps.sums) {
            sums.resize(batch * step.sums(), Pack::ZERO);
        }
    }

    pub(super) fn step(&self, c: &PassContext<'_>, at: usize, maps: &mut Maps) {
        if self.idles(at) {
            return;
        }
        let packs = std::mem::take(self.written(at, maps));
        let mut written = Written { packs, sums: std::mem::take(&mut maps.sums[at]) };
        self.compute(c, at, maps, &mut written);
        *self.written(at, maps) = written.packs;
        maps.sums[at] = written.sums;
    }

    fn written<'a>(&self, at: usize, maps: &'a mut Maps) -> &'a mut Vec<Pack> {
        match &self.program.steps[at] {
            TrainStep::Sum(sum) => &mut maps.states[sum.out.buffer],
            _ => &mut maps.made[at],
        }
    }

    fn compute(&self, c: &PassContext<'_>, at: usize, maps: &Maps, written: &mut Written) {
        match &self.program.steps[at] {
            TrainStep::Convolution(convolution) => self.convolve(c, convolution, maps, written),
            TrainStep::Pool(pool) => self.pool(c, pool, maps, written),
            TrainStep::Passing(passing) => self.pass(c, at, passing, maps, written),
            TrainStep::Sum(sum) => self.sum(c, sum, maps, written),
        }
    }

    fn convolve(&self, c: &PassContext<'_>, convolution: &ConvStep, maps: &Maps, written: &mut Written) {
        let unit = &convolution.unit;
        let (len, sums_len) = (unit.output.len(), 2 * unit.output.packs);
        let Written { packs: made, sums } = written;
        let tasks = c.cut(made, len).into_par_iter().zip(c.cut(sums, sums_len));
        tasks.enumerate().for_each(|(chunk, (made, sums))| {
            let scratch = &mut *c.workspace.scratch();
            sums.fill(Pack::ZERO);
            for ((i, out), sums) in
                c.images(chunk).zip(made.chunks_exact_mut(len)).zip(sums.chunks_exact_mut(sums_len))
            {
                let plain = self.source(c, convolution, maps, i, scratch);
                let Scratch { a, strip, .. } = scratch;
                let source = plain.unwrap_or_else(|| a.of(unit.input));
                unit.forward(c.level, c.parameters, source, strip, out, sums);
            }
        });
    }

    /// Returns the input of a convolution for image `i`, without padding. If the convolution needs padding, stores
    /// the input after ReLU in `scratch.a` and returns `None`.
    pub(super) fn source<'a>(
        &self,
        c: &PassContext<'_>,
        convolution: &ConvStep,
        maps: &'a Maps,
        i: usize,
        scratch: &mut Scratch,
    ) -> Option<&'a [Pack]> {
        let ConvStep { unit, source, .. } = convolution;
        let map = unit.input;
        let (from, Scaling { scale, shift }) = match source {
            ConvSource::State(slot) => {
                let from = self.view(&maps.states, *slot).image(i);
                if !matches!(unit.columns, Im2col::Depthwise(..)) {
                    return Some(from);
                }
                (from, &self.program.identity)
            }
            ConvSource::Normed(before) => {
                (&maps.made[*before][i * map.len()..][..map.len()], self.scaling(*before)?)
            }
        };
        c.level.run(PadRelu { map, source: from, scale, shift, out: scratch.a.of(map) });
        None
    }

    /// Returns the norm of a step as a factor and an addend; pools have none.
    pub(super) fn scaling(&self, step: usize) -> Option<&Scaling> {
        Some(&self.program.norms[step].as_ref()?.scaling)
    }

    pub(super) fn normalise(&mut self, at: usize, maps: &Maps) {
        if self.idles(at) {
            return;
        }
        let map = self.program.steps[at].output();
        let Some(norm) = &mut self.program.norms[at] else { return };
        let count = (maps.batch * map.pixels()) as f64;
        let [sum, square] = [0, 1].map(|which| totals(&maps.sums[at], 2 * map.packs, which, map.packs));
        norm.train(
            &self.program.tensors.parameters,
            &NormMoments::of(sum, square, count),
            count,
            &mut self.program.tensors.statistics,
        );
    }

    fn pool(&self, c: &PassContext<'_>, step: &PoolStep, maps: &Maps, written: &mut Written) {
        let map = step.map();
        let (len, sums_len) = (map.len(), 4 * map.packs);
        let Written { packs: made, sums } = written;
        let tasks = c.cut(made, len).into_par_iter().zip(c.cut(sums, sums_len));
        let source = self.view(&maps.states, step.source);
        tasks.enumerate().for_each(|(chunk, (made, sums))| {
            let scratch = &mut *c.workspace.scratch();
            let other = &mut scratch.pool;
            other.resize(len, Pack::ZERO);
            for ((i, out), sums) in
                c.images(chunk).zip(made.chunks_exact_mut(len)).zip(sums.chunks_exact_mut(sums_len))
            {
                let (max, average) = if step.maximum { (out, &mut other[..]) } else { (&mut other[..], out) };
                let (stride, map, source) = (step.stride, step.source.map, source.image(i));
                c.level.run(pool::PoolForward { stride, map, source, max, average, sums });
            }
        });
    }

    /// Computes the sums for the norm of a state.
    fn pass(&self, c: &PassContext<'_>, at: usize, passing: &Passing, maps: &Maps, written: &mut Written) {
        if self.program.norms[at].is_none() {
            return;
        }
        let (source, map) = (self.view(&maps.states, passing.source), passing.source.map);
        let len = 2 * map.packs;
        c.cut(&mut written.sums, len).into_par_iter().enumerate().for_each(|(chunk, sums)| {
            for (i, out) in c.images(chunk).zip(sums.chunks_exact_mut(len)) {
                let x = source.image(i);
                c.level.run(Dots { pixels: map.pixels(), left: x, right: &[x], out });
            }
        });
    }

    fn sum(&self, c: &PassContext<'_>, sum: &SumStep, maps: &Maps, written: &mut Written) {
        let out = sum.out;
        let idles = |term: &&SumTerm| matches!(term, SumTerm::Made(step) if self.idles(*step));
        let terms: Vec<SumTerm> = sum.terms.iter().filter(|term| !idles(term)).copied().collect();
        let dropped = |term: &SumTerm| matches!(term, SumTerm::Made(step) if !self.factors[*step].is_empty());
        let dropped = !self.mixes && terms.iter().any(dropped);
        let factor = |step: usize| if self.mixes { self.factors[step].first().copied() } else { None };
        let whole = self.weights(sum.out.map.packs, &terms, |step| factor(step).unwrap_or(1.0));
        let image = self.program.images[out.buffer];
        c.cut(&mut written.packs, image).into_par_iter().enumerate().for_each(|(chunk, states)| {
            for (i, state) in c.images(chunk).zip(states.chunks_exact_mut(image)) {
                let own = dropped.then(|| self.weights(out.map.packs, &terms, |step| self.factor(step, i)));
                let (scales, bias) = own.as_ref().unwrap_or(&whole);
                let (to, others) = Split::of(state, out.offset..out.offset + out.map.len());
                let of = |(term, scale): (&SumTerm, _)| {
                    let map = match self.read(*term) {
                        SumTerm::Made(step) => &maps.made[step][i * out.map.len()..][..out.map.len()],
                        SumTerm::State(from) if from.buffer == out.buffer => {
                            others.get(from.offset..from.offset + from.map.len())
                        }
                        SumTerm::State(from) => self.view(&maps.states, from).image(i),
                    };
                    Addend { scale, map }
                };
                let terms: Vec<Addend<'_>> =
                    terms.iter().zip(scales.iter().map(|s| &s[..])).map(of).collect();
                c.level.run(WeightedSum { map: out.map, terms: &terms, bias, add: false, out: to });
            }
        });
    }

    /// Returns the location of a term's feature map. A state that is passed on is read from its original location.
    fn read(&self, term: SumTerm) -> SumTerm {
        match term {
            SumTerm::Made(step) => match &self.program.steps[step] {
                TrainStep::Passing(passing) => SumTerm::State(passing.source),
                _ => term,
            },
            SumTerm::State(_) => term,
        }
    }

    /// Returns the factors of a sum's terms per channel, and the sum's constants. `factor` is the factor of a step's
    /// result.
    fn weights(
        &self,
        packs: usize,
        terms: &[SumTerm],
        factor: impl Fn(usize) -> f32,
    ) -> (Vec<Vec<Pack>>, Vec<Pack>) {
        let mut bias = vec![Pack::ZERO; packs];
        let scale = |term: &SumTerm| {
            let SumTerm::Made(step) = *term else { return vec![Pack::ONE; packs] };
            let factor = factor(step);
            let Some(Scaling { scale, shift }) = self.scaling(step) else {
                return vec![Pack([factor; LANES]); packs];
            };
            for (bias, shift) in bias.iter_mut().zip(shift) {
                (0..LANES).for_each(|lane| bias.0[lane] += factor * shift.0[lane]);
            }
            scale.iter().map(|pack| Pack(pack.0.map(|x| factor * x))).collect()
        };
        (terms.iter().map(scale).collect(), bias)
    }
}

/// Outputs of a step, taken out of the maps while the step runs.
struct Written {
    /// Buffer of the output.
    packs: Vec<Pack>,
    /// Sums for the norm of the output.
    sums: Vec<Pack>,
}

/// The parts of an image before and after a part that is written to.
pub(super) struct Split<'a> {
    before: &'a [Pack],
    after: &'a [Pack],
    end: usize,
}

impl<'a> Split<'a> {
    /// Splits `image` into the part `range` and the rest.
    pub(super) fn of(image: &'a mut [Pack], range: core::ops::Range<usize>) -> (&'a mut [Pack], Split<'a>) {
        let (before, rest) = image.split_at_mut(range.start);
        let (part, after) = rest.split_at_mut(range.len());
        (part, Split { before, after, end: range.end })
    }

    /// Returns another part by its range in the image. It must not overlap the part that is written to.
    pub(super) fn get(&self, range: core::ops::Range<usize>) -> &'a [Pack] {
        match range.start.checked_sub(self.end) {
            Some(start) => &self.after[start..][..range.len()],
            None => &self.before[range],
        }
    }
}
