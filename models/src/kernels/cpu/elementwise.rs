//! Pixelwise kernels: ReLU, weighted sums of feature maps, inner products of feature maps.

use core::ops::Range;

use super::layout::{HALO, MapSize};
use super::simd::{Kernel, Lanes, Pack};
use super::strip::{ColumnLoop, Store, Strip};

/// Kernel that writes `relu(scale * source + shift)` per channel into a padded feature map, whose borders are already
/// zero.
pub struct PadRelu<'a> {
    /// Size of the feature map.
    pub map: MapSize,
    /// Feature map without padding.
    pub source: &'a [Pack],
    /// Factor of each channel, `[block]`.
    pub scale: &'a [Pack],
    /// Addend of each channel, `[block]`.
    pub shift: &'a [Pack],
    /// Padded feature map.
    pub out: &'a mut [Pack],
}

impl Kernel for PadRelu<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (height, width) = (self.map.height, self.map.width);
        let rows = self.source.chunks_exact(width).zip(self.out.chunks_exact_mut(self.map.padded_width()));
        for (line, (from, to)) in rows.enumerate() {
            for part in 0..L::PARTS {
                let scale = L::load(&self.scale[line / height], part);
                let shift = L::load(&self.shift[line / height], part);
                for (to, from) in to[HALO..][..width].iter_mut().zip(from) {
                    L::load(from, part).fma(scale, shift).relu().store(to, part);
                }
            }
        }
    }
}

/// Kernel that computes `relu(source)` for some rows of each block.
pub struct ReluForward<'a> {
    /// Size of the feature map.
    pub map: MapSize,
    /// Feature map without padding.
    pub source: &'a [Pack],
    /// Range of the rows to compute.
    pub rows: Range<usize>,
    /// Destination of the results.
    pub out: Strip<'a>,
}

impl ColumnLoop for ReluForward<'_> {
    #[inline(always)]
    fn make<L: Lanes, C: Store<L> + Store<L::Half>>(mut self) {
        for block in 0..self.map.packs {
            let source = &self.source[block * self.map.pixels() + self.rows.start * self.map.width..];
            let (out, place) = self.out.block::<L, C>(block);
            for (to, from) in out.iter_mut().zip(source) {
                for part in 0..L::PARTS {
                    C::put(L::load(from, part).relu(), to, part, place);
                }
            }
        }
    }
}

/// Kernel that computes `scale * map + shift` per channel in place.
pub struct Affine<'a> {
    /// Pixels of the feature map.
    pub pixels: usize,
    /// Factor of each channel, `[block]`.
    pub scale: &'a [Pack],
    /// Addend of each channel, `[block]`.
    pub shift: &'a [Pack],
    /// The feature map.
    pub map: &'a mut [Pack],
}

impl Kernel for Affine<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        for (block, map) in self.map.chunks_exact_mut(self.pixels).enumerate() {
            for part in 0..L::PARTS {
                let (scale, shift) = (L::load(&self.scale[block], part), L::load(&self.shift[block], part));
                for at in map.iter_mut() {
                    L::load(at, part).fma(scale, shift).store(at, part);
                }
            }
        }
    }
}

/// A feature map and a factor for each channel.
#[derive(Copy, Clone)]
pub struct ScaledMap<'a> {
    /// Factor of each channel, `[block]`.
    pub scale: &'a [Pack],
    /// The feature map.
    pub map: &'a [Pack],
}

/// Kernel that computes `bias + sum of scale * map` per channel.
pub struct WeightedSum<'a> {
    /// Size of the feature maps.
    pub map: MapSize,
    /// The terms of the sum.
    pub terms: &'a [ScaledMap<'a>],
    /// Constant of each channel, `[block]`.
    pub bias: &'a [Pack],
    /// Whether to add to `out` instead of overwriting it.
    pub add: bool,
    /// Feature map without padding.
    pub out: &'a mut [Pack],
}

/// Pixels summed at a time: the running sum stays in the nearest cache while the feature maps are read in long runs.
const TILE: usize = 64;

impl Kernel for WeightedSum<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let pixels = self.map.pixels();
        for block in 0..self.map.packs {
            for start in (0..pixels).step_by(TILE) {
                let at = block * pixels + start;
                let out = &mut self.out[at..][..TILE.min(pixels - start)];
                let (bias, mut first) = (&self.bias[block], !self.add);
                if self.add && self.bias[block] != Pack::ZERO {
                    add_bias::<L>(bias, out);
                }
                let mut terms = self.terms;
                while !terms.is_empty() || first {
                    terms = match terms {
                        [a, b, c, d, rest @ ..] => {
                            add_terms::<L, 4>([a, b, c, d], block, at, first.then_some(bias), out);
                            rest
                        }
                        [a, b, c, rest @ ..] => {
                            add_terms::<L, 3>([a, b, c], block, at, first.then_some(bias), out);
                            rest
                        }
                        [a, b, rest @ ..] => {
                            add_terms::<L, 2>([a, b], block, at, first.then_some(bias), out);
                            rest
                        }
                        [a, rest @ ..] => {
                            add_terms::<L, 1>([a], block, at, first.then_some(bias), out);
                            rest
                        }
                        [] => {
                            out.fill(*bias);
                            terms
                        }
                    };
                    first = false;
                }
            }
        }
    }
}

#[inline(always)]
fn add_bias<L: Lanes>(bias: &Pack, out: &mut [Pack]) {
    for part in 0..L::PARTS {
        let bias = L::load(bias, part);
        for out in out.iter_mut() {
            L::load(out, part).add(bias).store(out, part);
        }
    }
}

/// Adds `N` terms to `start` if given, else to the values in `out`.
#[inline(always)]
fn add_terms<L: Lanes, const N: usize>(
    terms: [&ScaledMap<'_>; N],
    block: usize,
    at: usize,
    start: Option<&Pack>,
    out: &mut [Pack],
) {
    for part in 0..L::PARTS {
        let mut scale = [L::zero(); N];
        let mut maps = [&terms[0].map[..0]; N];
        for n in 0..N {
            scale[n] = L::load(&terms[n].scale[block], part);
            maps[n] = &terms[n].map[at..][..out.len()];
        }
        if let Some(start) = start {
            let start = L::load(start, part);
            for p in 0..out.len() {
                term_sum::<L, N>(&maps, &scale, p, part, start).store(&mut out[p], part);
            }
        } else {
            for p in 0..out.len() {
                term_sum::<L, N>(&maps, &scale, p, part, L::load(&out[p], part)).store(&mut out[p], part);
            }
        }
    }
}

#[inline(always)]
fn term_sum<L: Lanes, const N: usize>(
    maps: &[&[Pack]; N],
    scale: &[L; N],
    p: usize,
    part: usize,
    mut sum: L,
) -> L {
    for n in 0..N {
        sum = L::load(&maps[n][p], part).fma(scale[n], sum);
    }
    sum
}

/// Kernel that sums a feature map, and its products with other feature maps, over pixels per channel.
pub struct Dots<'a> {
    /// Pixels of the feature maps.
    pub pixels: usize,
    /// The first feature map.
    pub left: &'a [Pack],
    /// The other feature maps.
    pub right: &'a [&'a [Pack]],
    /// The sums, `[1 + others][block]`, overwritten.
    pub out: &'a mut [Pack],
}

impl Kernel for Dots<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        for block in 0..self.left.len() / self.pixels {
            for part in 0..L::PARTS {
                let mut first = 0;
                while first < self.right.len().max(1) {
                    first += match self.right.len() - first {
                        0 => products::<L, 0, 4>(&mut self, block, part, first),
                        1 => products::<L, 1, 4>(&mut self, block, part, first),
                        2 => products::<L, 2, 2>(&mut self, block, part, first),
                        3 => products::<L, 3, 2>(&mut self, block, part, first),
                        _ => products::<L, 4, 2>(&mut self, block, part, first),
                    };
                }
            }
        }
    }
}

/// Computes the sums for `N` of the other feature maps from index `first`, each in `SETS` interleaved sums. With
/// `first == 0` it also computes the sum of the first feature map. Returns the number of feature maps processed, at
/// least one.
#[inline(always)]
fn products<L: Lanes, const N: usize, const SETS: usize>(
    k: &mut Dots<'_>,
    block: usize,
    part: usize,
    first: usize,
) -> usize {
    let (blocks, range) = (k.left.len() / k.pixels, block * k.pixels..(block + 1) * k.pixels);
    let left = &k.left[range.clone()];
    let mut right = [&k.left[..0]; N];
    for n in 0..N {
        right[n] = &k.right[first + n][range.clone()];
    }
    let (mut total, mut sums) = ([L::zero(); SETS], [[L::zero(); SETS]; N]);
    let whole = k.pixels - k.pixels % SETS;
    for start in (0..whole).step_by(SETS) {
        for set in 0..SETS {
            let l = L::load(&left[start + set], part);
            total[set] = total[set].add(l);
            for n in 0..N {
                sums[n][set] = L::load(&right[n][start + set], part).fma(l, sums[n][set]);
            }
        }
    }
    for p in whole..k.pixels {
        let l = L::load(&left[p], part);
        total[0] = total[0].add(l);
        for n in 0..N {
            sums[n][0] = L::load(&right[n][p], part).fma(l, sums[n][0]);
        }
    }
    if first == 0 {
        of_sets(total).store(&mut k.out[block], part);
    }
    for (n, sums) in sums.into_iter().enumerate() {
        of_sets(sums).store(&mut k.out[(1 + first + n) * blocks + block], part);
    }
    N.max(1)
}

/// Adds the sums of the sets pairwise: two sets at a time, then the results.
#[inline(always)]
fn of_sets<L: Lanes, const SETS: usize>(sums: [L; SETS]) -> L {
    let mut sum = sums[0].add(sums[1]);
    for pair in (2..SETS).step_by(2) {
        sum = sum.add(sums[pair].add(sums[pair + 1]));
    }
    sum
}

/// Kernel for the gradient of a ReLU after a BatchNorm: `out = gradient` where `scale * source + shift > 0`, else 0.
/// It also computes the sums that the gradient of the BatchNorm needs.
pub struct GateNormed<'a> {
    /// Pixels of the feature maps.
    pub pixels: usize,
    /// Gradient of the ReLU's output.
    pub gradient: &'a [Pack],
    /// Input of the BatchNorm.
    pub source: &'a [Pack],
    /// Factor of each channel of the BatchNorm, `[block]`.
    pub scale: &'a [Pack],
    /// Addend of each channel of the BatchNorm, `[block]`.
    pub shift: &'a [Pack],
    /// Gradient of the ReLU's input, overwritten.
    pub out: &'a mut [Pack],
    /// Sums of `out` and of `out * source`, `[2][block]`, overwritten.
    pub sums: &'a mut [Pack],
}

impl Kernel for GateNormed<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let blocks = self.out.len() / self.pixels;
        for block in 0..blocks {
            let range = block * self.pixels..(block + 1) * self.pixels;
            let (gradient, source) = (&self.gradient[range.clone()], &self.source[range.clone()]);
            let out = &mut self.out[range];
            for part in 0..L::PARTS {
                let (scale, shift) = (L::load(&self.scale[block], part), L::load(&self.shift[block], part));
                let (mut sum, mut dot) = (L::zero(), L::zero());
                for ((to, g), y) in out.iter_mut().zip(gradient).zip(source) {
                    let y = L::load(y, part);
                    let v = L::load(g, part).gate(y.fma(scale, shift));
                    v.store(to, part);
                    sum = sum.add(v);
                    dot = v.fma(y, dot);
                }
                sum.store(&mut self.sums[block], part);
                dot.store(&mut self.sums[blocks + block], part);
            }
        }
    }
}

/// Kernel for the gradient of a ReLU: `out = gradient` where `source > 0`, else 0. With `add` the result is added to
/// `out`.
pub struct Gate<'a> {
    /// Gradient of the ReLU's output.
    pub gradient: &'a [Pack],
    /// Input of the ReLU.
    pub source: &'a [Pack],
    /// Whether to add to `out` instead of overwriting it.
    pub add: bool,
    /// Gradient of the ReLU's input.
    pub out: &'a mut [Pack],
}

impl Kernel for Gate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        for ((to, g), x) in self.out.iter_mut().zip(self.gradient).zip(self.source) {
            for part in 0..L::PARTS {
                let v = L::load(g, part).gate(L::load(x, part));
                if self.add { L::load(to, part).add(v) } else { v }.store(to, part);
            }
        }
    }
}
