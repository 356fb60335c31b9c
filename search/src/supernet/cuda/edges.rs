//! Edges from a state. Their convolutions are stored side by side, so that one launch computes many of them.

use milenas_models::Result;
use milenas_models::kernels::cuda::depthwise::{ByKind, Depthwise, SlotInput};
use milenas_models::kernels::cuda::mixture::Sources;
use milenas_models::kernels::cuda::norm::{self, CudaMoments, TermMaps, Terms, Weight};
use milenas_models::kernels::cuda::pointwise::Pointwise;
use milenas_models::kernels::cuda::pool::Pool;
use milenas_models::kernels::cuda::product::{ProductDims, row_products};
use milenas_models::kernels::cuda::relu::Halve;
use milenas_models::kernels::cuda::{Gemm, Words};

use super::pass::{PointwiseProduct, SupernetPass};
use super::plan::{CONVOLUTIONS, EdgePlan, SEPARABLE};
use super::state::{Buffers, CudaState};

/// Edges of a state under a plan.
pub(super) struct Edgewise<'a> {
    pub(super) state: &'a CudaState,
    pub(super) plan: &'a EdgePlan,
    /// Number of elements of a feature map, and of one channel.
    pub(super) map: usize,
    pub(super) length: usize,
    /// Buffers of the state.
    pub(super) b: Buffers,
}

impl Edgewise<'_> {
    /// Returns `count` feature maps from index `from` on.
    pub(super) fn maps(&self, from: usize, count: usize) -> Result<Words> {
        self.b.maps.part(from * self.map, count * self.map)
    }

    pub(super) fn terms(&self, pass: &SupernetPass<'_>, source: usize) -> Result<Terms> {
        let count = self.plan.terms.len();
        Ok(Terms {
            count,
            channels: self.state.channels,
            source: pass.ints.part(source, count)?,
            target: pass.ints.part(self.plan.at.target, count)?,
            weight: Weight::OfTerm(pass.floats.part(self.plan.at.weight, count)?),
        })
    }

    fn moments_at(&self, pass: &SupernetPass<'_>, map: usize) -> Result<CudaMoments> {
        pass.moments(self.plan.moments + map * self.state.channels)
    }

    /// Returns the statistics of the feature maps from `map` on, if the pass uses batch statistics.
    fn batch_moments(&self, pass: &SupernetPass<'_>, map: usize) -> Result<Option<CudaMoments>> {
        pass.training.then(|| self.moments_at(pass, map)).transpose()
    }

    /// Computes the statistics of feature maps, if the pass uses batch statistics.
    pub(super) fn moments(&self, pass: &mut SupernetPass<'_>, from: usize, count: usize) -> Result<()> {
        let Some(moments) = self.batch_moments(pass, from)? else { return Ok(()) };
        let rows = count * self.state.channels;
        norm::moments(pass.device, self.maps(from, count)?, moments, rows, self.length)
    }

    fn pool(&self, pass: &SupernetPass<'_>) -> Pool {
        let CudaState { channels, input, output, stride, .. } = *self.state;
        Pool { planes: channels * pass.batch, input, output, stride }
    }

    /// Returns the feature maps of the pools; an empty one for a pool without edges.
    fn pool_maps(&self) -> Result<[Words; 2]> {
        let [max, average] = self.plan.pools;
        let map = |active: bool, before: bool| match active {
            true => self.maps(self.plan.first_pool() + usize::from(before), 1),
            false => Ok(Words::NONE),
        };
        Ok([map(max, false)?, map(average, max)?])
    }

    pub(super) fn pools(&self, pass: &mut SupernetPass<'_>, x: Words) -> Result<()> {
        let [max, average] = self.pool_maps()?;
        self.pool(pass).forward(pass.device, x, max, self.b.taps, average)
    }

    pub(super) fn pools_back(&self, pass: &mut SupernetPass<'_>, dx: Words) -> Result<()> {
        let [max, average] = self.pool_maps()?;
        self.pool(pass).backward(pass.device, max, self.b.taps, average, dx)
    }

    /// Returns the depthwise convolutions of the state.
    fn firsts(&self, pass: &SupernetPass<'_>) -> Depthwise {
        let CudaState { channels, input, output, stride, .. } = *self.state;
        let slots = self.plan.convolutions;
        Depthwise { stride, slots, channels, batch: pass.batch, input, output }
    }

    /// Returns the second depthwise convolutions of the separable ones.
    fn second_depthwise(&self, pass: &SupernetPass<'_>) -> Depthwise {
        let mut slots = self.plan.convolutions;
        slots[SEPARABLE..].fill(0);
        Depthwise { stride: 1, slots, input: self.state.output, ..self.firsts(pass) }
    }

    fn pointwise(&self, slots: usize) -> Pointwise {
        Pointwise { slots, channels: self.state.channels, length: self.length }
    }

    fn pointwise_weights(
        &self,
        pass: &mut SupernetPass<'_>,
        slots: usize,
        weights: usize,
        [dy, x]: [Words; 2],
    ) -> Result<()> {
        let channels = self.state.channels;
        let out = pass.gradients.from(weights)?;
        let dims = ProductDims { m: channels, n: channels, length: self.length };
        row_products(pass.device, dy, x, out, false, slots, dims)
    }

    /// Runs all convolutions of the state up to their BatchNorms, with the statistics for these.
    pub(super) fn convolutions(&self, pass: &mut SupernetPass<'_>, x: Words) -> Result<()> {
        let w = by_kind(pass.weights, &self.plan.packed.first)?;
        self.firsts(pass).forward(pass.device, SlotInput::Shared(x), w, self.b.first)?;
        let (slots, weights) = (self.plan.firsts(), self.plan.packed.first_pointwise);
        let (weights, moments) = (pass.weights.from(weights)?, self.batch_moments(pass, 0)?);
        self.pointwise(slots).forward(pass.device, weights, self.b.first, self.b.maps, moments)
    }

    pub(super) fn convolutions_back(&self, pass: &mut SupernetPass<'_>, x: Words, dx: Words) -> Result<()> {
        let (slots, weights) = (self.plan.firsts(), self.plan.packed.first_pointwise);
        if pass.wants_weights() {
            self.pointwise_weights(pass, slots, weights, [self.b.maps, self.b.first])?;
        }
        let weights = pass.weights.from(weights)?;
        self.pointwise(slots).backward(pass.device, weights, self.b.maps, self.b.first)?;
        let (firsts, dy, at) = (self.firsts(pass), self.b.first, &self.plan.packed.first);
        if pass.wants_weights() {
            firsts.weight_gradient(pass.device, SlotInput::Shared(x), dy, by_kind(pass.gradients, at)?)?;
        }
        firsts.input_gradient(pass.device, SlotInput::Shared(x), by_kind(pass.weights, at)?, dy, dx)
    }

    /// Returns the input of the second part of separable convolutions.
    fn half_way(&self) -> Result<SlotInput> {
        Ok(SlotInput::Scaled(self.maps(0, self.plan.separable())?, self.b.half_way))
    }

    /// Runs the second part of the separable convolutions, with its statistics.
    pub(super) fn seconds(&self, pass: &mut SupernetPass<'_>) -> Result<()> {
        let (plan, slots) = (self.plan, self.plan.separable());
        let moments = self.moments_at(pass, 0)?;
        Terms::plain(slots, self.state.channels).scaling(
            pass.device,
            moments,
            Words::NONE,
            self.b.half_way,
        )?;
        let w = by_kind(pass.weights, &plan.packed.second)?;
        self.second_depthwise(pass).forward(pass.device, self.half_way()?, w, self.b.second)?;
        let out = self.maps(plan.seconds(), slots)?;
        let weights = pass.weights.from(plan.packed.second_pointwise)?;
        let moments = self.batch_moments(pass, plan.seconds())?;
        self.pointwise(slots).forward(pass.device, weights, self.b.second, out, moments)
    }

    /// Computes the gradients of the first part before its BatchNorms, which overwrite its feature maps.
    pub(super) fn seconds_back(&self, pass: &mut SupernetPass<'_>) -> Result<()> {
        let (plan, slots, channels) = (self.plan, self.plan.separable(), self.state.channels);
        let (dy, weights) = (self.maps(plan.seconds(), slots)?, plan.packed.second_pointwise);
        if pass.wants_weights() {
            self.pointwise_weights(pass, slots, weights, [dy, self.b.second])?;
        }
        let weights = pass.weights.from(weights)?;
        self.pointwise(slots).backward(pass.device, weights, dy, self.b.second)?;
        let (seconds, x, at) = (self.second_depthwise(pass), self.half_way()?, &plan.packed.second);
        if pass.wants_weights() {
            seconds.weight_gradient(pass.device, x, self.b.second, by_kind(pass.gradients, at)?)?;
        }
        seconds.input_gradient(pass.device, x, by_kind(pass.weights, at)?, self.b.second, dy)?;
        let (z, slopes, moments) = (self.maps(0, slots)?, pass.slopes()?, self.moments_at(pass, 0)?);
        Terms::plain(slots, channels).coefficients(
            pass.device,
            dy,
            TermMaps { z, x: Words::NONE },
            self.length,
            moments,
            &slopes,
        )?;
        let sources =
            Sources { count: slots, first: Words::NONE, target: Words::NONE, size: [channels, self.length] };
        sources.backward(pass.device, dy, z, &slopes, z, false)
    }

    fn halve(&self, pass: &SupernetPass<'_>) -> Halve {
        let CudaState { channels, input, output, .. } = *self.state;
        Halve { planes: channels * pass.batch, input, output }
    }

    /// Runs the strided skips up to their BatchNorms.
    pub(super) fn skips(&self, pass: &mut SupernetPass<'_>, x: Words) -> Result<()> {
        if self.plan.skips == 0 {
            return Ok(());
        }
        self.halve(pass).forward(pass.device, x, self.b.halves)?;
        for PointwiseProduct { weights, rows, columns, x: b, y: c } in self.halves()? {
            let (sizes, a) = ([rows, self.length, columns], pass.weights.from(weights)?);
            let steps = [rows * columns, 0, self.map];
            let batch = self.plan.skips;
            pass.device.gemm(&Gemm { sizes, a, transposed: false, b, c, steps, batch, add: false })?;
        }
        Ok(())
    }

    /// Returns the products of even and of odd pixels for the first skip; the weights and feature maps of the
    /// others follow.
    fn halves(&self) -> Result<[PointwiseProduct; 2]> {
        let (columns, skips) = (self.state.channels, self.plan.skips);
        let maps = self.maps(self.plan.firsts(), skips)?;
        let half = |i: usize, before: usize, rows: usize| {
            let (x, y) = (self.b.halves.part(i * self.map, self.map)?, maps.from(before * self.length)?);
            Ok::<_, milenas_models::Error>(PointwiseProduct {
                weights: self.plan.packed.skips[i],
                rows,
                columns,
                x,
                y,
            })
        };
        Ok([half(0, 0, columns / 2)?, half(1, columns / 2, columns - columns / 2)?])
    }

    pub(super) fn skips_back(&self, pass: &mut SupernetPass<'_>, x: Words, dx: Words) -> Result<()> {
        if self.plan.skips == 0 {
            return Ok(());
        }
        for PointwiseProduct { weights, rows, columns, x: half, y: dy } in self.halves()? {
            let size = rows * columns;
            let wanted = if pass.wants_weights() { self.plan.skips } else { 0 };
            for skip in 0..wanted {
                let out = pass.gradients.from(weights + skip * size)?;
                let dy = dy.from(skip * self.map)?;
                let dims = ProductDims { m: rows, n: columns, length: self.length };
                row_products(pass.device, dy, half, out, false, 1, dims)?;
            }
            for skip in 0..self.plan.skips {
                let (a, b) = (pass.weights.from(weights + skip * size)?, dy.from(skip * self.map)?);
                let (sizes, steps) = ([columns, self.length, rows], [0; 3]);
                let add = skip > 0;
                pass.device.gemm(&Gemm { sizes, a, transposed: true, b, c: half, steps, batch: 1, add })?;
            }
        }
        self.halve(pass).backward(pass.device, x, self.b.halves, dx)
    }
}

/// Returns the weights of each kind by their offsets; an empty buffer for kinds without edges.
fn by_kind(all: Words, at: &[usize]) -> Result<ByKind> {
    let mut words: ByKind = [Words::NONE; CONVOLUTIONS.len()];
    for (words, at) in words.iter_mut().zip(at) {
        *words = all.from(*at)?;
    }
    Ok(words)
}
