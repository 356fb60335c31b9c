//! The stem: a 3x3 convolution of the images, and the only BatchNorm of the supernet with an affine part.

use core::ops::Range;

use milenas_models::kernels::blocked::elementwise::{Dots, Term, WeightedSum};
use milenas_models::kernels::blocked::norm::{Moments, Scaling, Slope};
use milenas_models::kernels::blocked::pointwise::{Pointwise, WeightGradient};
use milenas_models::kernels::blocked::simd::{floats, floats_mut};
use milenas_models::kernels::blocked::{Channels, LANES, Map, Pack};
use rayon::prelude::*;

use super::cell::View;
use super::context::Context;
use super::norm::{Norm, Statistics, totals};
use super::parameters::{Gradients, Id, Parameters, per_chunk};
use super::state::Place;

/// Side of the convolution.
const SIDE: usize = 3;
/// Pixels whose patches exist at a time.
const STRIP: usize = 64;

/// The stem.
pub(super) struct Stem {
    in_channels: usize,
    weight: Id,
    gamma: Id,
    beta: Id,
    norm: Norm,
    /// The size of the output.
    pub(super) map: Map,
    /// `[image]`, before the norm.
    before: Vec<Pack>,
    values: Vec<Pack>,
    sums: Vec<Pack>,
}

impl Stem {
    pub(super) fn new(
        in_channels: usize,
        channels: usize,
        parameters: &mut Parameters,
        statistics: &mut Statistics,
    ) -> Stem {
        let shape = vec![channels, in_channels, SIDE, SIDE];
        let patch = Channels::one(in_channels * SIDE * SIDE);
        let weight = parameters.pointwise("stem.0.weight".into(), shape, patch);
        let [gamma, beta] = ["weight", "bias"].map(|x| parameters.vector(format!("stem.1.{x}"), channels));
        parameters.set("stem.1.weight", &vec![1.0; channels]);
        Stem {
            in_channels,
            weight,
            gamma,
            beta,
            norm: Norm::new("stem.1", channels, statistics),
            map: Map { packs: Channels::one(channels).packs(), ..Map::default() },
            before: Vec::new(),
            values: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// For a batch of images of this size.
    pub(super) fn resize(&mut self, height: usize, width: usize, batch: usize) {
        self.map = Map { height, width, ..self.map };
        self.before.resize(batch * self.map.len(), Pack::ZERO);
        self.values.resize(batch * self.map.len(), Pack::ZERO);
    }

    pub(super) fn place(&self) -> Place {
        Place { image: self.map.len(), ..Place::default() }
    }

    pub(super) fn output(&self) -> View<'_> {
        View { packs: &self.values, place: self.place(), map: self.map }
    }

    /// Packs of a patch.
    fn inputs(&self) -> usize {
        Channels::one(self.in_channels * SIDE * SIDE).packs()
    }

    fn strips(&self) -> impl Iterator<Item = Range<usize>> {
        let Map { height, width, .. } = self.map;
        let rows = (STRIP / width).max(1);
        (0..height).step_by(rows).map(move |y| y..(y + rows).min(height))
    }

    /// The patches around the pixels of some rows of an image `[C, H, W]`, `[block][pixel]`, lanes in the order of a
    /// weight `[C, 3, 3]`.
    fn patches(&self, image: &[f32], rows: Range<usize>, out: &mut Vec<Pack>) {
        let Map { height, width, .. } = self.map;
        let pixels = rows.len() * width;
        out.clear();
        out.resize(self.inputs() * pixels, Pack::ZERO);
        for (lane, (c, ky, kx)) in (0..self.in_channels)
            .flat_map(|c| (0..SIDE).flat_map(move |ky| (0..SIDE).map(move |kx| (c, ky, kx))))
            .enumerate()
        {
            let out = &mut out[lane / LANES * pixels..][..pixels];
            for (to, y) in out.chunks_exact_mut(width).zip(rows.clone()) {
                if (1..=height).contains(&(y + ky)) {
                    let from = &image[(c * height + y + ky - 1) * width..][..width];
                    let (first, last) = (1usize.saturating_sub(kx), (width + 1 - kx).min(width));
                    for x in first..last {
                        to[x].0[lane % LANES] = from[x + kx - 1];
                    }
                }
            }
        }
    }

    /// The stem's output for images `[N, C, H, W]`.
    pub(super) fn forward(&mut self, c: &Context<'_>, images: &[f32], statistics: &mut Statistics) {
        let (map, packs, len) = (self.map, self.map.packs, self.map.len());
        let image_len = self.in_channels * map.pixels();
        let mut before = std::mem::take(&mut self.before);
        let mut sums = std::mem::take(&mut self.sums);
        sums.clear();
        sums.resize(c.batch * 2 * packs, Pack::ZERO);
        let tasks = c.cut(&mut before, len).into_par_iter().zip(c.cut(&mut sums, 2 * packs));
        tasks.enumerate().for_each(|(chunk, (out, sums))| {
            let scratch = &mut *c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let (sum, square) = sums[at * 2 * packs..][..2 * packs].split_at_mut(packs);
                for rows in self.strips() {
                    let (first, width) = (rows.start * map.width, rows.len() * map.width);
                    self.patches(&images[i * image_len..][..image_len], rows, &mut scratch.strip);
                    c.level.run(Pointwise {
                        inputs: self.inputs(),
                        outputs: packs,
                        rows: 1,
                        width,
                        source: &scratch.strip,
                        source_plane: width,
                        weight: &c.parameters.values[self.weight],
                        out: &mut out[at * len + first..],
                        out_plane: map.pixels(),
                        out_step: width,
                        sums: Some([&mut *sum, &mut *square]),
                    });
                }
            }
        });
        (self.before, self.sums) = (before, sums);
        if c.training {
            let [sum, square] = [0, 1].map(|which| totals(&self.sums, 2 * packs, which, packs));
            let count = (c.batch * map.pixels()) as f64;
            self.norm.train(&Moments::of(sum, square, count), count, statistics);
        } else {
            self.norm.evaluate(statistics);
        }
        let (scale, bias) = self.affine(c.parameters);
        let before = &self.before;
        c.cut(&mut self.values, len).into_par_iter().enumerate().for_each(|(chunk, out)| {
            for (i, out) in c.images(chunk).zip(out.chunks_exact_mut(len)) {
                let terms = [Term { scale: &scale, map: &before[i * len..][..len] }];
                c.level.run(WeightedSum { map, terms: &terms, bias: &bias, add: false, out });
            }
        });
    }

    /// Norm and affine part together: factor and constant.
    fn affine(&self, parameters: &Parameters) -> (Vec<Pack>, Vec<Pack>) {
        let Scaling { mut scale, mut shift } = self.norm.scaling.clone();
        let (gamma, beta) = (floats(&parameters.values[self.gamma]), floats(&parameters.values[self.beta]));
        for (i, (scale, shift)) in floats_mut(&mut scale).iter_mut().zip(floats_mut(&mut shift)).enumerate() {
            (*scale, *shift) = (*scale * gamma[i], *shift * gamma[i] + beta[i]);
        }
        (scale, shift)
    }

    /// The gradients of the stem's weights, for that of its output.
    pub(super) fn backward(
        &mut self,
        c: &Context<'_>,
        images: &[f32],
        gradient: &[Pack],
        weights: &mut Gradients,
    ) {
        let (map, packs, len) = (self.map, self.map.packs, self.map.len());
        let image_len = self.in_channels * map.pixels();
        let mut sums = std::mem::take(&mut self.sums);
        c.cut(&mut sums, 2 * packs).into_par_iter().enumerate().for_each(|(chunk, sums)| {
            for (i, out) in c.images(chunk).zip(sums.chunks_exact_mut(2 * packs)) {
                let (left, right) = (&gradient[i * len..][..len], &self.before[i * len..][..len]);
                c.level.run(Dots { pixels: map.pixels(), left, right: &[right], out });
            }
        });
        self.sums = sums;
        let [sum, dot] = [0, 1].map(|which| totals(&self.sums, 2 * packs, which, packs));
        let scaling = &self.norm.scaling;
        let mut slope = Slope::of(scaling, 1.0, &sum, &dot, (c.batch * map.pixels()) as f64).0;
        slope.scale_by(&c.parameters.values[self.gamma]);
        let (scale, shift) = (floats(&scaling.scale), floats(&scaling.shift));
        for (i, x) in floats_mut(&mut weights.values[self.gamma]).iter_mut().enumerate() {
            *x = (f64::from(scale[i]) * dot[i] + f64::from(shift[i]) * sum[i]) as f32;
        }
        floats_mut(&mut weights.values[self.beta]).iter_mut().zip(&sum).for_each(|(x, sum)| *x = *sum as f32);
        self.norm.slope = slope;

        let ids = [self.weight];
        per_chunk(c, Some(&mut *weights), &ids).into_par_iter().enumerate().for_each(|(chunk, out)| {
            let Some(out) = out else { return };
            let scratch = &mut *c.workspace.scratch();
            for i in c.images(chunk) {
                let (g, before) = (&gradient[i * len..][..len], &self.before[i * len..][..len]);
                super::edge::norm_gradient(c.level, map, &self.norm, g, before, &mut scratch.dy);
                for rows in self.strips() {
                    let (first, pixels) = (rows.start * map.width, rows.len() * map.width);
                    self.patches(&images[i * image_len..][..image_len], rows, &mut scratch.strip);
                    c.level.run(WeightGradient {
                        inputs: self.inputs(),
                        outputs: packs,
                        pixels,
                        source: &scratch.strip,
                        source_plane: pixels,
                        gradient: &scratch.dy[first..],
                        gradient_plane: map.pixels(),
                        out,
                    });
                }
            }
        });
        weights.gather(c.parameters, &ids, c.chunks());
    }
}
