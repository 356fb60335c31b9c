//! The stem: a 3x3 convolution of the images, and a BatchNorm.

use core::ops::Range;

use crate::kernels::cpu::elementwise::{Affine, ScaledMap, WeightedSum};
use crate::kernels::cpu::norm::{NormCoefficient, NormMoments, Scaling, total};
use crate::kernels::cpu::pointwise::{PointwiseForward, PointwiseWeightGradient};
use crate::kernels::cpu::simd::{floats, floats_mut};
use crate::kernels::cpu::{Channels, LANES, Level, MapSize, Pack};
use rayon::prelude::*;

use super::context::PassContext;
use super::norm::{AffineNorm, Statistics, totals};
use super::parameters::{Gradients, Id, Parameters};

/// Side of the kernel.
const SIDE: usize = 3;
/// Number of pixels whose patches are computed at a time.
const STRIP: usize = 64;

/// The stem.
pub struct Stem {
    in_channels: usize,
    weight: Id,
    norm: AffineNorm,
    /// Size of the output.
    pub map: MapSize,
}

impl Stem {
    /// Returns a stem with a convolution by `weight` to `channels`, and a norm. The weight is
    /// [`Parameters::pointwise`](super::Parameters::pointwise) on [`Self::patch`].
    pub fn new(in_channels: usize, channels: usize, weight: Id, norm: AffineNorm) -> Stem {
        let map = MapSize { packs: Channels::one(channels).packs(), ..MapSize::default() };
        Stem { in_channels, weight, norm, map }
    }

    /// Returns the channels of a patch.
    pub fn patch(in_channels: usize) -> Channels {
        Channels::one(in_channels * SIDE * SIDE)
    }

    /// Sets the size of the images.
    pub fn resize(&mut self, height: usize, width: usize) {
        self.map = MapSize { height, width, ..self.map };
    }

    /// Number of packs of a patch.
    fn inputs(&self) -> usize {
        Stem::patch(self.in_channels).packs()
    }

    fn strips(&self) -> impl Iterator<Item = Range<usize>> {
        let MapSize { height, width, .. } = self.map;
        let rows = (STRIP / width).max(1);
        (0..height).step_by(rows).map(move |y| y..(y + rows).min(height))
    }

    /// Computes the patches around the pixels of some rows of an image `[C, H, W]`, to `[block][pixel]`. Lanes have
    /// the order of a weight `[C, 3, 3]`.
    pub fn patches(&self, image: &[f32], rows: Range<usize>, out: &mut Vec<Pack>) {
        let MapSize { height, width, .. } = self.map;
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
                    for (to, x) in to[first..last].iter_mut().zip(&from[first + kx - 1..]) {
                        to.0[lane % LANES] = *x;
                    }
                }
            }
        }
    }

    /// Convolves one image `[C, H, W]`, without the norm, and adds the `[2][block]` sums of the results to `sums`.
    fn convolve(
        &self,
        c: &PassContext<'_>,
        image: &[f32],
        strip: &mut Vec<Pack>,
        out: &mut [Pack],
        sums: &mut [Pack],
    ) {
        let (map, packs) = (self.map, self.map.packs);
        let (sum, square) = sums.split_at_mut(packs);
        let [inputs, outputs] = c.parameters.channels(self.weight);
        for rows in self.strips() {
            let (first, width) = (rows.start * map.width, rows.len() * map.width);
            self.patches(image, rows, strip);
            c.level.run(PointwiseForward {
                inputs,
                outputs,
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

    /// Returns one image of a batch `[N, C, H, W]`.
    fn image<'a>(&self, images: &'a [f32], i: usize) -> &'a [f32] {
        let len = self.in_channels * self.map.pixels();
        &images[i * len..][..len]
    }

    /// Computes the output, by image, for images `[N, C, H, W]`.
    pub fn forward(
        &mut self,
        c: &PassContext<'_>,
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
            self.norm.train(c.parameters, &NormMoments::of(sum, square, count), count, statistics);
        } else {
            self.norm.evaluate(c.parameters, statistics);
        }
        c.cut(out, len).into_par_iter().for_each(|out| self.normalise(c, out));
    }

    /// Sets the norm to the running statistics.
    pub fn evaluate(&mut self, parameters: &Parameters, statistics: &Statistics) {
        self.norm.evaluate(parameters, statistics);
    }

    /// Returns the weight, and the current scaling of the norm.
    pub fn layer(&self) -> (Id, &Scaling) {
        (self.weight, &self.norm.scaling)
    }

    /// Applies the norm in place.
    fn normalise(&self, c: &PassContext<'_>, out: &mut [Pack]) {
        let Scaling { scale, shift } = &self.norm.scaling;
        for map in out.chunks_exact_mut(self.map.len()) {
            c.level.run(Affine { pixels: self.map.pixels(), scale, shift, map });
        }
    }

    /// Computes the gradients of the stem's weights, from that of its output.
    ///
    /// The output `y` before the norm is linear in the patches: `y = W p`. So the sums over pixels of `g p'`, `p p'`
    /// and `p` are enough. They give the sum of `g y`, and the gradient of the weight, the sum of
    /// `(a g + b y + c) p'`, without `y`.
    pub fn backward(
        &mut self,
        c: &PassContext<'_>,
        images: &[f32],
        gradient: &[Pack],
        weights: &mut Gradients,
    ) {
        let (map, packs, len) = (self.map, self.map.packs, self.map.len());
        let tasks = (0..c.chunks()).into_par_iter();
        let chunks: Vec<StemSums> = tasks
            .map(|chunk| {
                let mut sums = StemSums::new(self.inputs(), packs);
                let strip = &mut c.workspace.scratch().strip;
                for i in c.images(chunk) {
                    let (g, image) = (&gradient[i * len..][..len], self.image(images, i));
                    for rows in self.strips() {
                        let (first, pixels) = (rows.start * map.width, rows.len() * map.width);
                        self.patches(image, rows, strip);
                        sums.add(c.level, strip, pixels, &g[first..], map.pixels());
                    }
                }
                sums
            })
            .collect();
        let [by_patch, between, patch, sum] =
            [0, 1, 2, 3].map(|which| total(chunks.iter().map(|x| &x.0[which][..]), chunks[0].0[which].len()));

        let weight = floats(&c.parameters.values[self.weight]);
        let lanes = self.inputs() * LANES;
        let at = |o: usize, i: usize| (o / LANES * lanes + i) * LANES + o % LANES;
        let row = |o: usize| (0..lanes).map(move |i| f64::from(weight[at(o, i)]));
        let dot: Vec<f64> = (0..packs * LANES)
            .map(|o| row(o).enumerate().map(|(i, w)| w * by_patch[at(o, i)]).sum())
            .collect();
        self.norm.backward(c.parameters, &sum, &dot, (c.batch * map.pixels()) as f64, weights);
        let NormCoefficient { a, b, c } = &self.norm.slope;
        let [a, b, c] = [a, b, c].map(|x| floats(x));
        let out = floats_mut(&mut weights.values[self.weight]);
        for o in 0..packs * LANES {
            let [a, b, c] = [a[o], b[o], c[o]].map(f64::from);
            for i in 0..lanes {
                let by_output: f64 = row(o).enumerate().map(|(j, w)| w * between[at(j, i)]).sum();
                out[at(o, i)] = (a * by_patch[at(o, i)] + b * by_output + c * patch[i]) as f32;
            }
        }
    }

    /// Computes the gradient of the images, from that of the output. [`backward`](Self::backward) must have computed
    /// the gradient coefficients of the norm.
    pub fn backward_images(
        &self,
        c: &PassContext<'_>,
        images: &[f32],
        gradient: &[Pack],
        out: &mut Vec<f32>,
    ) {
        let (map, len) = (self.map, self.map.len());
        let image_len = self.in_channels * map.pixels();
        let NormCoefficient { a, b, c: bias } = &self.norm.slope;
        let [outputs, inputs] = c.parameters.channels(self.weight);
        out.clear();
        out.resize(c.batch * image_len, 0.0);
        out.par_chunks_exact_mut(image_len).enumerate().for_each(|(i, out)| {
            let scratch = &mut *c.workspace.scratch();
            let (mut value, mut sums) = (vec![Pack::ZERO; len], vec![Pack::ZERO; 2 * map.packs]);
            self.convolve(c, self.image(images, i), &mut scratch.strip, &mut value, &mut sums);
            let terms = [
                ScaledMap { scale: a, map: &gradient[i * len..][..len] },
                ScaledMap { scale: b, map: &value },
            ];
            scratch.dy.resize(len, Pack::ZERO);
            c.level.run(WeightedSum { map, terms: &terms, bias, add: false, out: &mut scratch.dy });
            let mut patches = vec![Pack::ZERO; self.inputs() * map.pixels()];
            c.level.run(PointwiseForward {
                inputs,
                outputs,
                rows: 1,
                width: map.pixels(),
                source: &scratch.dy,
                source_plane: map.pixels(),
                weight: &c.parameters.transposed[self.weight],
                out: &mut patches,
                out_plane: map.pixels(),
                out_step: map.pixels(),
                sums: None,
            });
            self.scatter(&patches, out);
        });
    }

    /// Adds the gradient of the patches of an image to that of its pixels.
    fn scatter(&self, patches: &[Pack], out: &mut [f32]) {
        let MapSize { height, width, .. } = self.map;
        for lane in 0..self.in_channels * SIDE * SIDE {
            let (c, ky, kx) = (lane / (SIDE * SIDE), lane / SIDE % SIDE, lane % SIDE);
            let plane = &patches[lane / LANES * height * width..][..height * width];
            for y in (0..height).filter(|y| (1..=height).contains(&(y + ky))) {
                let to = &mut out[(c * height + y + ky - 1) * width..][..width];
                for x in (0..width).filter(|x| (1..=width).contains(&(x + kx))) {
                    to[x + kx - 1] += plane[y * width + x].0[lane % LANES];
                }
            }
        }
    }
}

/// Sums over pixels of four quantities: the products of gradient and patch, the products of patch and patch (both
/// `[block of the first][lane of the second]`), the patch, and the gradient.
struct StemSums([Vec<Pack>; 4]);

impl StemSums {
    fn new(inputs: usize, outputs: usize) -> StemSums {
        let lanes = inputs * LANES;
        StemSums([outputs * lanes, inputs * lanes, inputs, outputs].map(|len| vec![Pack::ZERO; len]))
    }

    /// Adds the sums of some pixels.
    fn add(&mut self, level: Level, patches: &[Pack], pixels: usize, gradient: &[Pack], plane: usize) {
        let [by_patch, between, patch, sum] = &mut self.0;
        for (gradient, gradient_plane, out) in [(gradient, plane, by_patch), (patches, pixels, between)] {
            let (inputs, source, source_plane) = (patch.len(), patches, pixels);
            let outputs = out.len() / (inputs * LANES);
            level.run(PointwiseWeightGradient {
                inputs: Channels::full(inputs),
                outputs: Channels::full(outputs),
                pixels,
                source,
                source_plane,
                gradient,
                gradient_plane,
                out,
            });
        }
        for (map, plane, sums) in [(patches, pixels, patch), (gradient, plane, sum)] {
            for (map, sum) in map.chunks(plane).zip(sums) {
                for pack in &map[..pixels] {
                    sum.0.iter_mut().zip(pack.0).for_each(|(sum, x)| *sum += x);
                }
            }
        }
    }
}
