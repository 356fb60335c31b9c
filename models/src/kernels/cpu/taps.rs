//! The im2col columns of a dense 3x3 convolution with zero padding: the nine pixels of each window, after ReLU.

use core::ops::Range;

use super::layout::MapSize;
use super::simd::{Kernel, Lanes, Pack};
use super::strip::{ColumnLoop, Store, Strip};

/// Side of the window, in pixels.
pub const SIDE: usize = 3;

/// Returns the part of an input row that tap column `kx` reads: the first output pixel, the number of pixels, and the
/// first input pixel.
#[inline(always)]
fn span(kx: usize, stride: usize, width: usize, small: usize) -> (usize, usize, usize) {
    let first = usize::from(kx == 0);
    // First output pixel for which `x * stride + kx - 1` reaches the width.
    let end = ((width + stride - kx) / stride).min(small);
    (first, end.saturating_sub(first), first * stride + kx - 1)
}

/// Kernel that gathers the taps after ReLU, `[tap][block]`, for some rows.
pub struct TapsGather<'a> {
    /// Rows and columns between neighbouring windows.
    pub stride: usize,
    /// Size of the input.
    pub map: MapSize,
    /// The input, without padding.
    pub source: &'a [Pack],
    /// Range of the output rows to compute.
    pub rows: Range<usize>,
    /// Number of blocks from one tap to the next.
    pub step: usize,
    /// Destination of the columns.
    pub out: Strip<'a>,
}

impl ColumnLoop for TapsGather<'_> {
    #[inline(always)]
    fn make<L: Lanes, C: Store<L> + Store<L::Half>>(mut self) {
        let (MapSize { packs, height, width }, small) = (self.map, self.map.strided(self.stride).width);
        for tap in 0..SIDE * SIDE {
            let (ky, kx) = (tap / SIDE, tap % SIDE);
            let (first, count, from) = span(kx, self.stride, width, small);
            for block in 0..packs {
                let (out, place) = self.out.block::<L, C>(tap * self.step + block);
                for (out, y) in out.chunks_exact_mut(small).zip(self.rows.clone()) {
                    let row = (y * self.stride + ky).wrapping_sub(1);
                    let count = if row < height { count } else { 0 };
                    fill::<L, C>(&mut out[..first], place);
                    fill::<L, C>(&mut out[first + count..], place);
                    if count == 0 {
                        continue;
                    }
                    let source = &self.source[(block * height + row) * width..][..width];
                    for (i, to) in out[first..first + count].iter_mut().enumerate() {
                        let at = &source[from + i * self.stride];
                        for part in 0..L::PARTS {
                            C::put(L::load(at, part).relu(), to, part, place);
                        }
                    }
                }
            }
        }
    }
}

/// Writes zeros.
#[inline(always)]
fn fill<L: Lanes, C: Store<L>>(out: &mut [Pack], place: usize) {
    for to in out {
        for part in 0..L::PARTS {
            C::put(L::zero(), to, part, place);
        }
    }
}

/// Kernel that adds the gradient of [`TapsGather`], without its ReLU, to `out`.
pub struct TapsScatter<'a> {
    /// Rows and columns between neighbouring windows.
    pub stride: usize,
    /// Size of the input.
    pub map: MapSize,
    /// Gradient of the columns, `[tap][block][row][column]`, for some rows.
    pub columns: &'a [Pack],
    /// Range of the output rows that `columns` holds.
    pub rows: Range<usize>,
    /// Gradient of the input, without padding.
    pub out: &'a mut [Pack],
}

impl Kernel for TapsScatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (MapSize { packs, height, width }, small) = (self.map, self.map.strided(self.stride).width);
        let plane = self.rows.len() * small;
        for tap in 0..SIDE * SIDE {
            let (ky, kx) = (tap / SIDE, tap % SIDE);
            let (first, count, to) = span(kx, self.stride, width, small);
            for block in 0..packs {
                let columns = &self.columns[(tap * packs + block) * plane..][..plane];
                for (columns, y) in columns.chunks_exact(small).zip(self.rows.clone()) {
                    let row = (y * self.stride + ky).wrapping_sub(1);
                    if row >= height {
                        continue;
                    }
                    let out = &mut self.out[(block * height + row) * width..][..width];
                    for (i, from) in columns[first..first + count].iter().enumerate() {
                        let at = &mut out[to + i * self.stride];
                        for part in 0..L::PARTS {
                            L::load(at, part).add(L::load(from, part)).store(at, part);
                        }
                    }
                }
            }
        }
    }
}

/// Kernel that computes means of 2x2 windows, without padding, for some rows.
pub struct AverageHalve<'a> {
    /// Size of the input.
    pub map: MapSize,
    /// The input, without padding.
    pub source: &'a [Pack],
    /// Range of the output rows to compute. The output has half the size of the input, rounded up.
    pub rows: Range<usize>,
    /// Destination of the means.
    pub out: Strip<'a>,
}

impl ColumnLoop for AverageHalve<'_> {
    #[inline(always)]
    fn make<L: Lanes, C: Store<L> + Store<L::Half>>(mut self) {
        let (MapSize { packs, height, width }, small) = (self.map, self.map.strided(2).width);
        for block in 0..packs {
            let (out, place) = self.out.block::<L, C>(block);
            for (out, y) in out.chunks_exact_mut(small).zip(self.rows.clone()) {
                let rows = 2 * y..(2 * y + 2).min(height);
                for (x, to) in out.iter_mut().enumerate() {
                    let columns = 2 * x..(2 * x + 2).min(width);
                    let share = L::splat(1.0 / (rows.len() * columns.len()) as f32);
                    for part in 0..L::PARTS {
                        let mut sum = L::zero();
                        for row in rows.clone() {
                            for column in columns.clone() {
                                let at = &self.source[(block * height + row) * width + column];
                                sum = L::load(at, part).fma(share, sum);
                            }
                        }
                        C::put(sum, to, part, place);
                    }
                }
            }
        }
    }
}

/// Kernel that computes the gradient of [`AverageHalve`].
pub struct Double<'a> {
    /// Size of the input.
    pub map: MapSize,
    /// Gradient of the means: `[block]` planes of half the input's size, rounded up.
    pub gradient: &'a [Pack],
    /// Gradient of the input, without padding, overwritten.
    pub out: &'a mut [Pack],
}

impl Kernel for Double<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (MapSize { packs, height, width }, small) = (self.map, self.map.strided(2));
        for block in 0..packs {
            for y in 0..height {
                let rows = (2 * (y / 2) + 2).min(height) - 2 * (y / 2);
                let from = &self.gradient[(block * small.height + y / 2) * small.width..][..small.width];
                let out = &mut self.out[(block * height + y) * width..][..width];
                for (x, to) in out.iter_mut().enumerate() {
                    let columns = (2 * (x / 2) + 2).min(width) - 2 * (x / 2);
                    let share = L::splat(1.0 / (rows * columns) as f32);
                    for part in 0..L::PARTS {
                        L::load(&from[x / 2], part).fma(share, L::zero()).store(to, part);
                    }
                }
            }
        }
    }
}
