//! The stem: a 3x3 convolution of the images, and a BatchNorm.

use core::ops::Range;

use crate::kernels::blocked::elementwise::{Affine, Dots};
use crate::kernels::blocked::norm::{Moments, Scaling};
use crate::kernels::blocked::pointwise::{Pointwise, WeightGradient};
use crate::kernels::blocked::{Channels, LANES, Map, Pack};
use rayon::prelude::*;

use super::context::Context;
use super::norm::{AffineNorm, Statistics, totals};
use super::parameters::{Gradients, Id, Parameters, per_chunk};
use super::scratch::Scratch;
use super::unit::norm_gradient;

/// Side of the convolution.
const SIDE: usize = 3;
/// Pixels whose patches exist at a time.
const STRIP: usize = 64;

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

    /// The convolution of one image `[C, H, W]`, before the norm, with its `[2][block]` sums added to `sums`.
    fn convolve(
        &self,
        c: &Context<'_>,
        image: &[f32],
        strip: &mut Vec<Pack>,
        out: &mut [Pack],
        sums: &mut [Pack],
    ) {
        let (map, packs) = (self.map, self.map.packs);
        let (sum, square) = sums.split_at_mut(packs);
        for rows in self.strips() {
            let (first, width) = (rows.start * map.width, rows.len() * map.width);
            self.patches(image, rows, strip);
            c.level.run(Pointwise {
                inputs: self.inputs(),
                outputs: packs,
                rows: 1,
                width,
                source: strip,
                source_plane: width,
                weight: &c.parameters.values[self.weight],
                out: &mut out[first..],
                out_plane: map.pixels(),
                out_step: width,
                sums: Some([&mut *sum, &mut *square]),
            });
        }
    }

    /// An image of a batch `[N, C, H, W]`.
    fn image<'a>(&self, images: &'a [f32], i: usize) -> &'a [f32] {
        let len = self.in_channels * self.map.pixels();
        &images[i * len..][..len]
    }

    /// The output `[image]` for images `[N, C, H, W]`.
    pub fn forward(
        &mut self,
        c: &Context<'_>,
        images: &[f32],
        statistics: &mut Statistics,
        out: &mut [Pack],
    ) {
        let (packs, pixels, len) = (self.map.packs, self.map.pixels(), self.map.len());
        let mut sums = vec![Pack::ZERO; c.batch * 2 * packs];
        let tasks = c.cut(out, len).into_par_iter().zip(c.cut(&mut sums, 2 * packs));
        tasks.enumerate().for_each(|(chunk, (out, sums))| {
            let scratch = &mut *c.workspace.scratch();
            let pairs = out.chunks_exact_mut(len).zip(sums.chunks_exact_mut(2 * packs));
            for (i, (out, sums)) in c.images(chunk).zip(pairs) {
                self.convolve(c, self.image(images, i), &mut scratch.strip, out, sums);
            }
        });
        if c.training {
            let [sum, square] = [0, 1].map(|which| totals(&sums, 2 * packs, which, packs));
            let count = (c.batch * pixels) as f64;
            self.norm.train(c.parameters, &Moments::of(sum, square, count), count, statistics);
        } else {
            self.norm.evaluate(c.parameters, statistics);
        }
        c.cut(out, len).into_par_iter().for_each(|out| self.normalise(c, out));
    }

    /// Makes the norm that of the running statistics.
    pub fn evaluate(&mut self, parameters: &Parameters, statistics: &Statistics) {
        self.norm.evaluate(parameters, statistics);
    }

    /// The output for one image `[C, H, W]`, by the norm as it is.
    pub fn predict(&self, c: &Context<'_>, image: &[f32], out: &mut [Pack]) {
        let mut sums = vec![Pack::ZERO; 2 * self.map.packs];
        self.convolve(c, image, &mut c.workspace.scratch().strip, out, &mut sums);
        self.normalise(c, out);
    }

    /// The norm, in place.
    fn normalise(&self, c: &Context<'_>, out: &mut [Pack]) {
        let Scaling { scale, shift } = &self.norm.scaling;
        for map in out.chunks_exact_mut(self.map.len()) {
            c.level.run(Affine { pixels: self.map.pixels(), scale, shift, map });
        }
    }

    /// The gradients of the stem's weights, for that of its output. The convolution is made again, twice.
    pub fn backward(&mut self, c: &Context<'_>, images: &[f32], gradient: &[Pack], weights: &mut Gradients) {
        let (map, packs, len) = (self.map, self.map.packs, self.map.len());
        let mut sums = vec![Pack::ZERO; c.batch * 2 * packs];
        c.cut(&mut sums, 2 * packs).into_par_iter().enumerate().for_each(|(chunk, sums)| {
            let Scratch { strip, da: before, .. } = &mut *c.workspace.scratch();
            before.resize(len, Pack::ZERO);
            for (i, out) in c.images(chunk).zip(sums.chunks_exact_mut(2 * packs)) {
                self.convolve(c, self.image(images, i), strip, before, out);
                let left = &gradient[i * len..][..len];
                c.level.run(Dots { pixels: map.pixels(), left, right: &[before], out });
            }
        });
        let [sum, dot] = [0, 1].map(|which| totals(&sums, 2 * packs, which, packs));
        self.norm.backward(c.parameters, &sum, &dot, (c.batch * map.pixels()) as f64, weights);

        let ids = [self.weight];
        per_chunk(c, Some(&mut *weights), &ids).into_par_iter().enumerate().for_each(|(chunk, out)| {
            let Some(out) = out else { return };
            let Scratch { strip, da: before, dy, .. } = &mut *c.workspace.scratch();
            before.resize(len, Pack::ZERO);
            let mut sums = vec![Pack::ZERO; 2 * packs];
            for i in c.images(chunk) {
                let (g, image) = (&gradient[i * len..][..len], self.image(images, i));
                self.convolve(c, image, strip, before, &mut sums);
                norm_gradient(c.level, map, &self.norm.slope, g, before, dy);
                for rows in self.strips() {
                    let (first, pixels) = (rows.start * map.width, rows.len() * map.width);
                    self.patches(image, rows, strip);
                    c.level.run(WeightGradient {
                        inputs: self.inputs(),
                        outputs: packs,
                        pixels,
                        source: strip,
                        source_plane: pixels,
                        gradient: &dy[first..],
                        gradient_plane: map.pixels(),
                        out,
                    });
                }
            }
        });
        weights.gather(c.parameters, &ids, c.chunks());
    }
}
