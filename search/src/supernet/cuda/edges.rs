//! The edges that begin at a state, all their convolutions side by side, so that a launch does for many of them.

use milenas_models::Result;
use milenas_models::kernels::cuda::depthwise::{Depthwise, Input};
use milenas_models::kernels::cuda::mixture::Sources;
use milenas_models::kernels::cuda::norm::{self, Moments, Terms, Weight};
use milenas_models::kernels::cuda::pool::Pool;
use milenas_models::kernels::cuda::product::row_products;
use milenas_models::kernels::cuda::rectify::Halve;
use milenas_models::kernels::cuda::{Gemm, Words};

use super::pass::{Pass, Product};
use super::plan::{CONVOLUTIONS, Plan, SEPARABLE};
use super::state::{Buffers, State, slopes};

/// A state's edges under a plan.
pub(super) struct Edgewise<'a> {
    pub(super) state: &'a State,
    pub(super) plan: &'a Plan,
    /// Words of a map, and of a channel of it.
    pub(super) map: usize,
    pub(super) length: usize,
    pub(super) b: Buffers,
}

impl Edgewise<'_> {
    pub(super) fn maps(&self, from: usize, count: usize) -> Result<Words> {
        self.b.maps.part(from * self.map, count * self.map)
    }

    pub(super) fn terms(&self, pass: &Pass<'_>, source: usize) -> Result<Terms> {
        let count = self.plan.terms.len();
        Ok(Terms {
            count,
            channels: self.state.channels,
            source: pass.ints.part(source, count)?,
            target: pass.ints.part(self.plan.at.target, count)?,
            weight: Weight::OfTerm(pass.floats.part(self.plan.at.weight, count)?),
        })
    }

    fn moments_at(&self, pass: &Pass<'_>, map: usize) -> Result<Moments> {
        pass.moments(self.plan.moments + map * self.state.channels)
    }

    /// The moments of maps, where they are the batch's.
    pub(super) fn moments(&self, pass: &mut Pass<'_>, from: usize, count: usize) -> Result<()> {
        if !pass.training {
            return Ok(());
        }
        let moments = self.moments_at(pass, from)?;
        let rows = count * self.state.channels;
        norm::moments(pass.device, self.maps(from, count)?, moments, rows, self.length)
    }

    fn pool(&self, pass: &Pass<'_>) -> Pool {
        let State { channels, input, output, stride, .. } = *self.state;
        Pool { planes: channels * pass.batch, input, output, stride }
    }

    /// The maps of the pools that there are.
    fn pool_maps(&self) -> Result<[Option<Words>; 2]> {
        let [max, average] = self.plan.pools;
        let map = |active: bool, before: bool| {
            active.then(|| self.maps(self.plan.first_pool() + usize::from(before), 1)).transpose()
        };
        Ok([map(max, false)?, map(average, max)?])
    }

    pub(super) fn pools(&self, pass: &mut Pass<'_>, x: Words) -> Result<()> {
        let (pool, [max, average]) = (self.pool(pass), self.pool_maps()?);
        if let Some(y) = max {
            pool.max(pass.device, x, y, self.b.taps)?;
        }
        average.map_or(Ok(()), |y| pool.average(pass.device, x, y))
    }

    pub(super) fn pools_back(&self, pass: &mut Pass<'_>, dx: Words) -> Result<()> {
        let (pool, [max, average]) = (self.pool(pass), self.pool_maps()?);
        if let Some(dy) = max {
            pool.max_gradient(pass.device, dy, self.b.taps, dx)?;
        }
        average.map_or(Ok(()), |dy| pool.average_gradient(pass.device, dy, dx))
    }

    /// The depthwise convolutions of each kind, with the kind and where its first is among all: of the state, or of maps of the
    /// nodes' size.
    fn depthwise(&self, pass: &Pass<'_>, kinds: usize, whole: bool) -> Vec<(usize, usize, Depthwise)> {
        let State { channels, input, output, stride, .. } = *self.state;
        let (stride, input) = if whole { (1, output) } else { (stride, input) };
        let (batch, mut before) = (pass.batch, 0);
        let kinds = self.plan.convolutions[..kinds].iter().zip(CONVOLUTIONS).enumerate();
        let kind = |(i, (&slots, (kernel, dilation)))| {
            let from = before;
            before += slots;
            (i, from, Depthwise { kernel, stride, dilation, slots, channels, batch, input, output })
        };
        kinds.map(kind).collect()
    }

    /// Products with square weights `[slot][channel][channel]`; of the transposed ones where `transposed`.
    fn pointwise(
        &self,
        pass: &mut Pass<'_>,
        slots: usize,
        weights: usize,
        [b, c]: [Words; 2],
        transposed: bool,
    ) -> Result<()> {
        if slots == 0 {
            return Ok(());
        }
        let (channels, a) = (self.state.channels, pass.weights.from(weights)?);
        let sizes = [channels, self.length, channels];
        let steps = [channels * channels, self.map, self.map];
        pass.device.gemm(&Gemm { sizes, a, transposed, b, c, steps, batch: slots, add: false })
    }

    fn pointwise_weights(
        &self,
        pass: &mut Pass<'_>,
        slots: usize,
        weights: usize,
        [dy, x]: [Words; 2],
    ) -> Result<()> {
        let channels = self.state.channels;
        let out = pass.gradients.from(weights)?;
        row_products(pass.device, [dy, x, out], false, slots, [channels, channels, self.length])
    }

    /// All convolutions of the state itself, up to their BatchNorms.
    pub(super) fn convolutions(&self, pass: &mut Pass<'_>, x: Words) -> Result<()> {
        for (i, from, convolution) in self.depthwise(pass, CONVOLUTIONS.len(), false) {
            let (w, y) = (pass.weights.from(self.plan.packed.first[i])?, self.b.first.from(from * self.map)?);
            convolution.forward(pass.device, Input::Shared(x), w, y)?;
        }
        let (slots, weights) = (self.plan.firsts(), self.plan.packed.first_pointwise);
        self.pointwise(pass, slots, weights, [self.b.first, self.b.maps], false)
    }

    pub(super) fn convolutions_back(&self, pass: &mut Pass<'_>, x: Words, dx: Words) -> Result<()> {
        let (slots, weights) = (self.plan.firsts(), self.plan.packed.first_pointwise);
        if pass.wants_weights() {
            self.pointwise_weights(pass, slots, weights, [self.b.maps, self.b.first])?;
        }
        self.pointwise(pass, slots, weights, [self.b.maps, self.b.first], true)?;
        for (i, from, convolution) in self.depthwise(pass, CONVOLUTIONS.len(), false) {
            let (at, dy) = (self.plan.packed.first[i], self.b.first.from(from * self.map)?);
            if pass.wants_weights() {
                convolution.weight_gradient(pass.device, Input::Shared(x), dy, pass.gradients.from(at)?)?;
            }
            convolution.input_gradient(pass.device, Input::Shared(x), pass.weights.from(at)?, dy, dx)?;
        }
        Ok(())
    }

    /// What the second half of separable convolutions reads: from the slot-th on.
    fn half_way(&self, from: usize) -> Result<Input> {
        let [scale, shift] = self.b.half_way;
        let channels = from * self.state.channels;
        Ok(Input::Scaled(
            self.maps(from, self.plan.separable() - from)?,
            [scale.from(channels)?, shift.from(channels)?],
        ))
    }

    /// The second half of the separable convolutions, and its moments.
    pub(super) fn seconds(&self, pass: &mut Pass<'_>) -> Result<()> {
        let (plan, slots) = (self.plan, self.plan.separable());
        let moments = self.moments_at(pass, 0)?;
        Terms::plain(slots, self.state.channels).scaling(
            pass.device,
            moments,
            Words::NONE,
            self.b.half_way,
        )?;
        for (i, from, convolution) in self.depthwise(pass, SEPARABLE, true) {
            let (w, y) = (pass.weights.from(plan.packed.second[i])?, self.b.second.from(from * self.map)?);
            convolution.forward(pass.device, self.half_way(from)?, w, y)?;
        }
        let out = self.maps(plan.seconds(), slots)?;
        self.pointwise(pass, slots, plan.packed.second_pointwise, [self.b.second, out], false)?;
        self.moments(pass, plan.seconds(), slots)
    }

    /// To the gradients of the first half before its BatchNorms, which take the place of its maps.
    pub(super) fn seconds_back(&self, pass: &mut Pass<'_>) -> Result<()> {
        let (plan, slots, channels) = (self.plan, self.plan.separable(), self.state.channels);
        let (dy, weights) = (self.maps(plan.seconds(), slots)?, plan.packed.second_pointwise);
        if pass.wants_weights() {
            self.pointwise_weights(pass, slots, weights, [dy, self.b.second])?;
        }
        self.pointwise(pass, slots, weights, [dy, self.b.second], true)?;
        for (i, from, convolution) in self.depthwise(pass, SEPARABLE, true) {
            let (at, x, dy) =
                (plan.packed.second[i], self.half_way(from)?, self.b.second.from(from * self.map)?);
            if pass.wants_weights() {
                convolution.weight_gradient(pass.device, x, dy, pass.gradients.from(at)?)?;
            }
            let dx = self.maps(plan.seconds() + from, convolution.slots)?;
            convolution.input_gradient(pass.device, x, pass.weights.from(at)?, dy, dx)?;
        }
        let (z, slopes, moments) = (self.maps(0, slots)?, slopes(pass), self.moments_at(pass, 0)?);
        Terms::plain(slots, channels).slopes(
            pass.device,
            dy,
            [z, Words::NONE],
            self.length,
            moments,
            &slopes,
        )?;
        let sources =
            Sources { count: slots, first: Words::NONE, target: Words::NONE, size: [channels, self.length] };
        sources.backward(pass.device, dy, z, &slopes, z, false)
    }

    fn halve(&self, pass: &Pass<'_>) -> Halve {
        let State { channels, input, output, .. } = *self.state;
        Halve { planes: channels * pass.batch, input, output }
    }

    /// Strided skips, up to their BatchNorms.
    pub(super) fn skips(&self, pass: &mut Pass<'_>, x: Words) -> Result<()> {
        if self.plan.skips == 0 {
            return Ok(());
        }
        self.halve(pass).forward(pass.device, x, self.b.halves)?;
        for Product { weights, rows, columns, x: b, y: c } in self.halves()? {
            let (sizes, a) = ([rows, self.length, columns], pass.weights.from(weights)?);
            let steps = [rows * columns, 0, self.map];
            let batch = self.plan.skips;
            pass.device.gemm(&Gemm { sizes, a, transposed: false, b, c, steps, batch, add: false })?;
        }
        Ok(())
    }

    /// The products of even and of odd pixels, for the first skip; the others' weights and maps follow.
    fn halves(&self) -> Result<[Product; 2]> {
        let (columns, skips) = (self.state.channels, self.plan.skips);
        let maps = self.maps(self.plan.firsts(), skips)?;
        let half = |i: usize, before: usize, rows: usize| {
            let (x, y) = (self.b.halves.part(i * self.map, self.map)?, maps.from(before * self.length)?);
            Ok::<_, milenas_models::Error>(Product {
                weights: self.plan.packed.skips[i],
                rows,
                columns,
                x,
                y,
            })
        };
        Ok([half(0, 0, columns / 2)?, half(1, columns / 2, columns - columns / 2)?])
    }

    pub(super) fn skips_back(&self, pass: &mut Pass<'_>, x: Words, dx: Words) -> Result<()> {
        if self.plan.skips == 0 {
            return Ok(());
        }
        for Product { weights, rows, columns, x: half, y: dy } in self.halves()? {
            let size = rows * columns;
            let wanted = if pass.wants_weights() { self.plan.skips } else { 0 };
            for skip in 0..wanted {
                let out = pass.gradients.from(weights + skip * size)?;
                let dy = dy.from(skip * self.map)?;
                row_products(pass.device, [dy, half, out], false, 1, [rows, columns, self.length])?;
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
