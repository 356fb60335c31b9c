//! Backward pass of the steps.

use core::ops::Range;

use rayon::prelude::*;

use crate::kernels::cpu::elementwise::{Dots, GateNormed, ScaledMap as Addend, WeightedSum};
use crate::kernels::cpu::norm::{NormCoefficient, Scaling};
use crate::kernels::cpu::simd::floats;
use crate::kernels::cpu::{Pack, pool};

use super::super::context::PassContext;
use super::super::norm::totals;
use super::super::parameters::{Gradients, Id, per_chunk};
use super::super::scratch::Scratch;
use super::super::unit::norm_gradient;
use super::gradients::StateGradients;
use super::{
    ConvSource, ConvStep, ConvTarget, FusedNetwork, Maps, Passing, PoolStep, SumStep, SumTerm, TrainStep,
};

/// Gradients that a backward pass computes in addition to those of the states.
pub(super) enum BackwardGoal<'a> {
    Nothing,
    /// Gradients of all weights.
    Weights,
    /// Gradient of the pixels, `[N, C, H, W]`.
    Pixels(&'a mut Vec<f32>),
}

impl FusedNetwork {
    /// Computes all gradients for the last forward pass, after the head has computed the loss.
    pub(super) fn backward(&mut self, images: &[f32], batch: usize, auxiliary: bool) {
        let mut weights = std::mem::take(&mut self.program.tensors.gradients);
        self.backward_to(images, batch, auxiliary, &mut weights, BackwardGoal::Weights);
        self.program.tensors.gradients = weights;
    }

    /// Runs the backward pass, with gradients of weights in `weights`. Gradients of convolution weights are computed
    /// only if `wanted` asks for them.
    pub(super) fn backward_to(
        &mut self,
        images: &[f32],
        batch: usize,
        auxiliary: bool,
        weights: &mut Gradients,
        wanted: BackwardGoal<'_>,
    ) {
        let convolutions = matches!(wanted, BackwardGoal::Weights);
        let (maps, mut profile) = (std::mem::take(&mut self.maps), std::mem::take(&mut self.profile));
        let (slot, parameters) = (self.program.last, &self.program.tensors.parameters);
        self.gradients.claim(slot, batch);
        let last = self.view(&maps.states, slot);
        let mut gradient = std::mem::take(&mut self.gradients.rooms[slot.buffer]);
        self.program.head.backward(parameters, last, &mut gradient, Some(&mut *weights));
        self.gradients.rooms[slot.buffer] = gradient;
        if let (true, Some((mut head, slot))) = (auxiliary, self.program.auxiliary.take()) {
            self.gradients.zero_unwritten(slot, batch);
            let input = self.view(&maps.states, slot);
            let (gradient, parameters) =
                (&mut self.gradients.rooms[slot.buffer], &self.program.tensors.parameters);
            profile.time("backward, auxiliary", || head.backward(parameters, input, gradient, weights));
            self.program.auxiliary = Some((head, slot));
        }
        (self.maps, self.profile) = (maps, profile);
        self.steps_back(0..self.program.steps.len(), weights, convolutions);
        let (maps, mut profile) = (std::mem::take(&mut self.maps), std::mem::take(&mut self.profile));
        self.gradients.zero_unwritten_all(0, batch);
        let gradient = std::mem::take(&mut self.gradients.rooms[0]);
        let (level, parameters, workspace) = (self.level, &self.program.tensors.parameters, &self.workspace);
        let c = PassContext { level, parameters, workspace, batch, training: true };
        let stem = &mut self.program.stem;
        if !matches!(wanted, BackwardGoal::Nothing) {
            profile.time("backward, stem", || stem.backward(&c, images, &gradient, weights));
        }
        if let BackwardGoal::Pixels(out) = wanted {
            stem.backward_images(&c, images, &gradient, out);
        }
        self.gradients.rooms[0] = gradient;
        self.gradients.release(0);
        (self.maps, self.profile) = (maps, profile);
    }

    /// Runs the backward pass of a range of steps. Gradients of convolution weights are computed only if `convolutions`.
    pub(super) fn steps_back(&mut self, steps: Range<usize>, weights: &mut Gradients, convolutions: bool) {
        let mut maps = std::mem::take(&mut self.maps);
        let mut profile = std::mem::take(&mut self.profile);
        for at in steps.rev() {
            if self.idles(at) {
                self.forget(at, weights);
                self.release(at);
                continue;
            }
            let name = match &self.program.steps[at] {
                TrainStep::Convolution(_) => "backward, convolutions",
                TrainStep::Pool(_) | TrainStep::Passing(_) => "backward, pools",
                TrainStep::Sum(_) => "backward, sums",
            };
            profile.time("backward, norms", || self.slope(at, &mut maps, weights));
            profile.time(name, || self.step_back(at, &mut maps, weights, convolutions));
            self.release(at);
        }
        (self.maps, self.profile) = (maps, profile);
    }

    /// Removes the gradients of a step that the pass skips.
    fn forget(&self, at: usize, weights: &mut Gradients) {
        if let TrainStep::Convolution(convolution) = &self.program.steps[at] {
            convolution.unit.ids().for_each(|id| weights.remove(id));
        }
        if let Some(norm) = &self.program.norms[at] {
            norm.ids().for_each(|id| weights.remove(id));
        }
    }

    /// Releases the gradients that no earlier step writes or reads.
    fn release(&mut self, at: usize) {
        for buffer in 1..self.program.first.len() {
            if self.program.first[buffer] == at {
                self.gradients.release(buffer);
            }
        }
    }

    /// Computes the gradient of a step's norm, and of its mixture weight.
    fn slope(&mut self, at: usize, maps: &mut Maps, weights: &mut Gradients) {
        let step = &self.program.steps[at];
        let mixed = self.mixes && !self.factors[at].is_empty();
        let (map, Some(target)) = (step.output(), step.target()) else { return };
        if self.program.norms[at].is_none() && !mixed {
            return;
        }
        let sums_len = step.sums();
        if let ConvTarget::State(slot) = target {
            self.gradients.zero_unwritten(slot, maps.batch);
        }
        let c = self.context(maps.batch);
        let mut sums = std::mem::take(&mut maps.sums[at]);
        if let ConvTarget::State(slot) = target {
            let gradient = self.view(&self.gradients.rooms, slot);
            c.cut(&mut sums, sums_len).into_par_iter().enumerate().for_each(|(chunk, sums)| {
                for (i, out) in c.images(chunk).zip(sums.chunks_exact_mut(sums_len)) {
                    let right = match step {
                        TrainStep::Passing(passing) => self.view(&maps.states, passing.source).image(i),
                        _ => &maps.made[at][i * map.len()..][..map.len()],
                    };
                    let factor = if mixed { 1.0 } else { self.factor(at, i) };
                    let out = &mut out[..2 * map.packs];
                    c.level.run(Dots { pixels: map.pixels(), left: gradient.image(i), right: &[right], out });
                    out.iter_mut().flat_map(|pack| &mut pack.0).for_each(|x| *x *= factor);
                }
            });
        }
        let [mut sum, mut dot] = [0, 1].map(|which| totals(&sums, sums_len, which, map.packs));
        maps.sums[at] = sums;
        if mixed {
            let factor = f64::from(self.factors[at].first().copied().unwrap_or(1.0));
            let products = match self.scaling(at) {
                Some(Scaling { scale, shift }) => {
                    let lanes = floats(scale).iter().zip(floats(shift)).zip(dot.iter().zip(&sum));
                    lanes
                        .map(|((scale, shift), (dot, sum))| f64::from(*scale) * dot + f64::from(*shift) * sum)
                        .sum()
                }
                None => dot.iter().sum(),
            };
            self.slopes[at] = products;
            sum.iter_mut().chain(&mut dot).for_each(|x| *x *= factor);
        }
        let count = (maps.batch * map.pixels()) as f64;
        if let Some(norm) = &mut self.program.norms[at] {
            norm.ids().for_each(|id| weights.restore(id));
            norm.backward(&self.program.tensors.parameters, &sum, &dot, count, weights);
        }
    }

    fn step_back(&mut self, at: usize, maps: &mut Maps, weights: &mut Gradients, convolutions: bool) {
        let mut gradients = std::mem::take(&mut self.gradients);
        let c = self.context(maps.batch);
        match &self.program.steps[at] {
            TrainStep::Convolution(convolution) => {
                let ids: Vec<Id> = convolution.unit.ids().collect();
                let wanted = convolutions.then_some(&mut *weights);
                self.convolve_back(&c, at, convolution, maps, &mut gradients, (wanted, &ids));
                if convolutions {
                    weights.gather(c.parameters, &ids, c.chunks());
                }
            }
            TrainStep::Passing(passing) => self.pass_back(&c, at, passing, maps, &mut gradients),
            TrainStep::Pool(pool) => self.pool_back(&c, at, pool, maps, &mut gradients),
            TrainStep::Sum(sum) => self.sum_back(&c, sum, &mut gradients),
        }
        self.gradients = gradients;
    }

    /// Computes the gradient of a convolution's input from that of its normalised output.
    fn convolve_back(
        &self,
        c: &PassContext<'_>,
        at: usize,
        convolution: &ConvStep,
        maps: &mut Maps,
        gradients: &mut StateGradients,
        (weights, ids): (Option<&mut Gradients>, &[Id]),
    ) {
        let Some(norm) = &self.program.norms[at] else { return };
        let unit = &convolution.unit;
        let (input, map) = (unit.input, unit.output);
        let weights = per_chunk(c, weights, ids);
        let mut made = std::mem::take(&mut maps.made[at]);
        // A convolution whose input is another convolution stores its gradient in its own buffer, and its sums in
        // those of the other.
        let before = match convolution.source {
            ConvSource::Normed(before) => Some(before),
            ConvSource::State(_) => None,
        };
        let sums_len = before.map_or(0, |_| 2 * input.packs);
        let mut sums = before.map(|b| std::mem::take(&mut maps.sums[b])).unwrap_or_default();
        let (write, read) = match (&convolution.source, convolution.target) {
            (ConvSource::State(from), ConvTarget::State(to)) => (Some(*from), Some(to)),
            (ConvSource::State(from), ConvTarget::Next(_)) => (Some(*from), None),
            (ConvSource::Normed(_), ConvTarget::State(to)) => (None, Some(to)),
            (ConvSource::Normed(_), ConvTarget::Next(_)) => (None, None),
            (_, ConvTarget::Nobody) => return,
        };
        let (pairs, add) = self.pairs(c, gradients, write, read);
        let tasks = pairs.into_par_iter().zip(c.cut(&mut made, map.len())).zip(c.cut(&mut sums, sums_len));
        tasks.zip(weights).enumerate().for_each(|(chunk, (((mut pair, made), sums), mut weights))| {
            let scratch = &mut *c.workspace.scratch();
            for (index, i) in c.images(chunk).enumerate() {
                let (out, gradient) = pair.of(index);
                let gradient = match convolution.target {
                    ConvTarget::Next(next) => &maps.made[next][i * map.len()..][..map.len()],
                    ConvTarget::State(_) | ConvTarget::Nobody => gradient,
                };
                let own = &mut made[index * map.len()..][..map.len()];
                let scaled;
                let slope = match self.factor(at, i) {
                    1.0 => &norm.slope,
                    factor => {
                        let a = norm.slope.a.iter().map(|pack| Pack(pack.0.map(|x| factor * x))).collect();
                        scaled = NormCoefficient { a, ..norm.slope.clone() };
                        &scaled
                    }
                };
                norm_gradient(c.level, map, slope, gradient, own, &mut scratch.dy);
                let plain = self.source(c, convolution, maps, i, scratch);
                let mut a = std::mem::take(&mut scratch.a);
                let mut rest = weights.as_deref_mut();
                let source = plain.unwrap_or_else(|| a.of(input));
                unit.backward(c.level, c.parameters, source, scratch, &mut rest);
                scratch.a = a;
                match (&convolution.source, before.and_then(|b| self.scaling(b))) {
                    (ConvSource::Normed(before), Some(scaling)) => {
                        unit.backward_columns(c.level, c.parameters, scratch, false);
                        c.level.run(GateNormed {
                            pixels: input.pixels(),
                            gradient: &scratch.da,
                            source: &maps.made[*before][i * input.len()..][..input.len()],
                            scale: &scaling.scale,
                            shift: &scaling.shift,
                            out: own,
                            sums: &mut sums[index * sums_len..][..sums_len],
                        });
                    }
                    (ConvSource::State(slot), _) => {
                        let source = self.view(&maps.states, *slot).image(i);
                        unit.backward_input(c.level, c.parameters, source, scratch, add, out);
                    }
                    _ => (),
                }
            }
        });
        maps.made[at] = made;
        if let Some(before) = before {
            maps.sums[before] = sums;
        }
    }

    fn pool_back(
        &self,
        c: &PassContext<'_>,
        at: usize,
        step: &PoolStep,
        maps: &Maps,
        gradients: &mut StateGradients,
    ) {
        let (stride, map, small) = (step.stride, step.source.map, step.map());
        let ConvTarget::State(target) = step.target else { return };
        let (pairs, add) = self.pairs(c, gradients, Some(step.source), Some(target));
        pairs.into_par_iter().enumerate().for_each(|(chunk, mut pair)| {
            let Scratch { pool: scratch, dy, .. } = &mut *c.workspace.scratch();
            let needed = (2 * map.height + 1) * small.width + 2;
            scratch.resize(needed.max(scratch.len()), Pack::ZERO);
            for (index, i) in c.images(chunk).enumerate() {
                let (out, gradient) = pair.of(index);
                if !add {
                    out.fill(Pack::ZERO);
                }
                let gradient = match self.factor(at, i) {
                    1.0 => gradient,
                    factor => {
                        dy.clear();
                        dy.extend(gradient.iter().map(|pack| Pack(pack.0.map(|x| factor * x))));
                        &dy[..]
                    }
                };
                if step.maximum {
                    let source = self.view(&maps.states, step.source).image(i);
                    let max = &maps.made[at][i * small.len()..][..small.len()];
                    c.level.run(pool::MaxBackward { stride, map, source, max, gradient, scratch, out });
                } else {
                    c.level.run(pool::AverageBackward { stride, map, gradient, scratch, out });
                }
            }
        });
    }

    /// Computes the gradient of a state from that of the state passed on.
    fn pass_back(
        &self,
        c: &PassContext<'_>,
        at: usize,
        passing: &Passing,
        maps: &Maps,
        gradients: &mut StateGradients,
    ) {
        let ConvTarget::State(target) = passing.target else { return };
        let (source, map) = (passing.source, passing.source.map);
        let zeros = vec![Pack::ZERO; map.packs];
        let (pairs, add) = self.pairs(c, gradients, Some(source), Some(target));
        pairs.into_par_iter().enumerate().for_each(|(chunk, mut pair)| {
            for (index, i) in c.images(chunk).enumerate() {
                let (out, gradient) = pair.of(index);
                let factor = self.factor(at, i);
                let slope = self.program.norms[at].as_ref().map(|norm| &norm.slope);
                let scale = |a: &Pack| Pack(a.0.map(|x| factor * x));
                let a: Vec<Pack> = match slope {
                    Some(slope) => slope.a.iter().map(scale).collect(),
                    None => vec![scale(&Pack::ONE); map.packs],
                };
                let (b, bias) = slope.map_or((&zeros, &zeros), |slope| (&slope.b, &slope.c));
                let value = self.view(&maps.states, source).image(i);
                let terms = [Addend { scale: &a, map: gradient }, Addend { scale: b, map: value }];
                let terms = if slope.is_some() { &terms[..] } else { &terms[..1] };
                c.level.run(WeightedSum { map, terms, bias, add, out });
            }
        });
    }

    /// Computes the gradients of the states among a sum's terms. The other terms read the gradient of the sum.
    fn sum_back(&self, c: &PassContext<'_>, sum: &SumStep, gradients: &mut StateGradients) {
        let ones = vec![Pack::ONE; sum.out.map.packs];
        let zeros = vec![Pack::ZERO; sum.out.map.packs];
        for term in &sum.terms {
            let SumTerm::State(slot) = term else { continue };
            let (pairs, add) = self.pairs(c, gradients, Some(*slot), Some(sum.out));
            pairs.into_par_iter().enumerate().for_each(|(chunk, mut pair)| {
                for index in 0..c.images(chunk).len() {
                    let (out, map) = pair.of(index);
                    let terms = [Addend { scale: &ones, map }];
                    c.level.run(WeightedSum { map: slot.map, terms: &terms, bias: &zeros, add, out });
                }
            });
        }
    }
}
