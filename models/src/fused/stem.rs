//! The stem: a 3x3 convolution of the images, and a BatchNorm.

use core::ops::Range;

use crate::kernels::blocked::elementwise::{Dots, Term, WeightedSum};
use crate::kernels::blocked::norm::Moments;
use crate::kernels::blocked::pointwise::{Pointwise, WeightGradient};
use crate::kernels::blocked::{Channels, LANES, Map, Pack};
use rayon::prelude::*;

use super::context::Context;
use super::norm::{AffineNorm, Statistics, totals};
use super::parameters::{Gradients, Id, Parameters, per_chunk};
use super::unit::norm_gradient;

/// Side of the convolution.
const SIDE: usize = 3;
/// Pixels whose patches exist at a time.
const STRIP: usize = 64;

/// What a pass keeps of a batch.
#[derive(Default)]
pub struct Kept {
    /// `[image]`, before the norm.
    before: Vec<Pack>,
    /// `[image][2][block]`.
    sums: Vec<Pack>,
}

/// The stem.
pub struct Stem {
    in_channels: usize,
    weight: Id,
    norm: AffineNorm,
    /// The size of the output.
    pub map: Map,
}

impl Stem {
    /// A convolution by `weight`, [`Parameters::pointwise`](super::Parameters::pointwise) on [`Self::patch`], to
    /// `channels`, and what follows it.
    pub fn new(in_channels: usize, channels: usize, weight: Id, norm: AffineNorm) -> Stem {
        let map = Map { packs: Channels::one(channels).packs(), ..Map::default() };
        Stem { in_channels, weight, norm, map }
    }

    /// The channels of a patch.
    pub fn patch(in_channels: usize) -> Channels {
        Channels::one(in_channels * SIDE * SIDE)
    }

    /// For images of this size.
    pub fn resize(&mut self, height: usize, width: usize) {
        self.map = Map { height, width, ..self.map };
    }

    /// Packs of a patch.
    fn inputs(&self) -> usize {
        Stem::patch(self.in_channels).packs()
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

    /// The output `[image]` for images `[N, C, H, W]`.
    pub fn forward(
        &mut self,
        c: &Context<'_>,
        images: &[f32],
        statistics: &mut Statistics,
        kept: &mut Kept,
        out: &mut [Pack],
    ) {
        self.convolve(c, images, kept);
        if c.training {
            let (packs, pixels) = (self.map.packs, self.map.pixels());
            let [sum, square] = [0, 1].map(|which| totals(&kept.sums, 2 * packs, which, packs));
            let count = (c.batch * pixels) as f64;
            self.norm.train(c.parameters, &Moments::of(sum, square, count), count, statistics);
        } else {
            self.norm.evaluate(c.parameters, statistics);
        }
        self.normalise(c, kept, out);
    }

    /// Makes the norm that of the running statistics.
    pub fn evaluate(&mut self, parameters: &Parameters, statistics: &Statistics) {
        self.norm.evaluate(parameters, statistics);
    }

    /// The convolution of images `[N, C, H, W]`, without the norm.
    pub fn convolve(&self, c: &Context<'_>, images: &[f32], kept: &mut Kept) {
        let (map, packs, len) = (self.map, self.map.packs, self.map.len());
        let image_len = self.in_channels * map.pixels();
        let Kept { before, sums } = kept;
        before.resize(c.batch * len, Pack::ZERO);
        sums.clear();
        sums.resize(c.batch * 2 * packs, Pack::ZERO);
        let tasks = c.cut(before, len).into_par_iter().zip(c.cut(sums, 2 * packs));
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
    }

    /// The output `[image]`, by the norm as it is, of what was convolved.
    pub fn normalise(&self, c: &Context<'_>, kept: &Kept, out: &mut [Pack]) {
        let (map, len) = (self.map, self.map.len());
        let (scaling, before) = (&self.norm.scaling, &kept.before);
        c.cut(out, len).into_par_iter().enumerate().for_each(|(chunk, out)| {
            for (i, out) in c.images(chunk).zip(out.chunks_exact_mut(len)) {
                let terms = [Term { scale: &scaling.scale, map: &before[i * len..][..len] }];
                c.level.run(WeightedSum { map, terms: &terms, bias: &scaling.shift, add: false, out });
            }
        });
    }

    /// The gradients of the stem's weights, for that of its output.
    pub fn backward(
        &mut self,
        c: &Context<'_>,
        images: &[f32],
        gradient: &[Pack],
        kept: &mut Kept,
        weights: &mut Gradients,
    ) {
        let (map, packs, len) = (self.map, self.map.packs, self.map.len());
        let image_len = self.in_channels * map.pixels();
        let Kept { before, sums } = kept;
        c.cut(sums, 2 * packs).into_par_iter().enumerate().for_each(|(chunk, sums)| {
            for (i, out) in c.images(chunk).zip(sums.chunks_exact_mut(2 * packs)) {
                let (left, right) = (&gradient[i * len..][..len], &before[i * len..][..len]);
                c.level.run(Dots { pixels: map.pixels(), left, right: &[right], out });
            }
        });
        let [sum, dot] = [0, 1].map(|which| totals(sums, 2 * packs, which, packs));
        self.norm.backward(c.parameters, &sum, &dot, (c.batch * map.pixels()) as f64, weights);

        let ids = [self.weight];
        per_chunk(c, Some(&mut *weights), &ids).into_par_iter().enumerate().for_each(|(chunk, out)| {
            let Some(out) = out else { return };
            let scratch = &mut *c.workspace.scratch();
            for i in c.images(chunk) {
                let (g, before) = (&gradient[i * len..][..len], &before[i * len..][..len]);
                norm_gradient(c.level, map, &self.norm.slope, g, before, &mut scratch.dy);
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
