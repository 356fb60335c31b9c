//! Depthwise convolution, 3x3 or 5x5, dilation and stride 1 or 2, padded so that stride 1 keeps the size.
//!
//! Inputs and output gradients are padded feature maps ([`MapSize::padded_len`]); the loops skip rows outside the
//! image. Weights are packs `[block][tap]`.

mod gradients;

use core::ops::Range;

use super::layout::{HALO, MapSize};
use super::simd::{LANES, Lanes, Pack};
use super::strip::{ColumnLoop, Store, Strip};

pub use gradients::{DepthwiseWeightGradient, InputGradient};

/// Kernel size, dilation and stride of a depthwise convolution.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DepthwiseShape {
    /// Side of the kernel, 3 or 5.
    pub kernel: usize,
    /// Distance between neighbouring taps, 1 or 2.
    pub dilation: usize,
    /// Stride, 1 or 2.
    pub stride: usize,
}

impl DepthwiseShape {
    /// Number of taps of a channel.
    #[inline(always)]
    pub fn taps(self) -> usize {
        self.kernel * self.kernel
    }

    /// Distance in pixels from the middle tap to the outermost tap.
    #[inline(always)]
    fn reach(self) -> usize {
        (self.kernel - 1) * self.dilation / 2
    }

    /// Range of the kernel rows that fall inside the image when the middle kernel row is at row `middle`.
    #[inline(always)]
    fn rows(self, middle: usize, height: usize) -> Range<usize> {
        let (reach, d) = (self.reach(), self.dilation);
        reach.saturating_sub(middle).div_ceil(d)..self.kernel.min((height - 1 + reach - middle) / d + 1)
    }
}

/// Calls `$f::<.., kernel, dilation, stride>` for a [`DepthwiseShape`].
macro_rules! by_shape {
    ($shape:expr, $f:ident::<$($T:ty),+>($arg:expr)) => {
        match ($shape.kernel, $shape.dilation, $shape.stride) {
            (3, 1, 1) => $f::<$($T),+, 3, 1, 1>($arg),
            (3, 1, 2) => $f::<$($T),+, 3, 1, 2>($arg),
            (3, 2, 1) => $f::<$($T),+, 3, 2, 1>($arg),
            (3, 2, 2) => $f::<$($T),+, 3, 2, 2>($arg),
            (5, 1, 1) => $f::<$($T),+, 5, 1, 1>($arg),
            (5, 1, 2) => $f::<$($T),+, 5, 1, 2>($arg),
            (5, 2, 1) => $f::<$($T),+, 5, 2, 1>($arg),
            (5, 2, 2) => $f::<$($T),+, 5, 2, 2>($arg),
            _ => panic!("depthwise kernels are 3 or 5 wide, dilation and stride 1 or 2, found {:?}", $shape),
        }
    };
}
use by_shape;

/// One row of results: the taps that fall inside the image, and the positions of their inputs and weights.
#[derive(Copy, Clone)]
struct DepthwiseRow<'a> {
    /// A padded feature map.
    source: &'a [Pack],
    /// Index of the leftmost tap of the first row of taps, for result 0.
    first: usize,
    /// Packs from one row of taps to the next.
    step: usize,
    /// Number of rows of taps.
    rows: usize,
    weight: &'a [Pack],
    /// Index of the weight of the first tap. `weight_step` leads to the next row, `weight_x` to the next column.
    weight_first: usize,
    weight_step: isize,
    weight_x: isize,
}

/// Destination of the results of a row, and how they are written.
#[derive(Copy, Clone)]
struct Put<'a> {
    /// Packs from one result to the next.
    gap: usize,
    /// Whether to add to `out` instead of overwriting it.
    add: bool,
    /// ReLU input at the positions of the results. Results are set to zero where it is not positive.
    gate: Option<&'a [Pack]>,
    /// Index of the block among those that share a pack.
    place: usize,
}

/// Computes the results `x..x + X` of a row.
#[inline(always)]
fn tile<L: Lanes, C: Store<L>, const KX: usize, const D: usize, const S: usize, const X: usize>(
    row: &DepthwiseRow<'_>,
    x: usize,
    part: usize,
    out: &mut [Pack],
    put: Put<'_>,
) {
    let gap = put.gap;
    let mut sums = [L::zero(); X];
    if put.add && put.gate.is_none() {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = L::load(&out[(x + i) * gap], part);
        }
    }
    for y in 0..row.rows {
        let mut weight = [L::zero(); KX];
        for (kx, w) in weight.iter_mut().enumerate() {
            let at = row.weight_first as isize + y as isize * row.weight_step + kx as isize * row.weight_x;
            *w = L::load(&row.weight[at as usize], part);
        }
        let source = &row.source[row.first + y * row.step + x * S..][..(X - 1) * S + (KX - 1) * D + 1];
        for (kx, w) in weight.into_iter().enumerate() {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = L::load(&source[i * S + kx * D], part).fma(w, *sum);
            }
        }
    }
    if let Some(gate) = put.gate {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = sum.gate(L::load(&gate[(x + i) * gap], part));
            if put.add {
                *sum = L::load(&out[(x + i) * gap], part).add(*sum);
            }
        }
    }
    for (i, sum) in sums.into_iter().enumerate() {
        C::put(sum, &mut out[(x + i) * gap], part, put.place);
    }
}

/// Computes the first `parts` registers of `count` results of a row.
#[inline(always)]
fn row_of<L: Lanes, C: Store<L>, const KX: usize, const D: usize, const S: usize>(
    row: DepthwiseRow<'_>,
    count: usize,
    parts: usize,
    out: &mut [Pack],
    put: Put<'_>,
) {
    for part in 0..parts {
        let mut x = 0;
        while x + 8 <= count {
            tile::<L, C, KX, D, S, 8>(&row, x, part, out, put);
            x += 8;
        }
        if x + 4 <= count {
            tile::<L, C, KX, D, S, 4>(&row, x, part, out, put);
            x += 4;
        }
        while x < count {
            tile::<L, C, KX, D, S, 1>(&row, x, part, out, put);
            x += 1;
        }
    }
}

/// Kernel that computes some rows of a depthwise convolution.
pub struct DepthwiseForward<'a> {
    /// Shape of the convolution.
    pub shape: DepthwiseShape,
    /// Size of the input.
    pub map: MapSize,
    /// The input, padded.
    pub source: &'a [Pack],
    /// Weights, `[block][tap]`.
    pub weight: &'a [Pack],
    /// Range of the output rows to compute.
    pub rows: Range<usize>,
    /// Number of used channels in the last block.
    pub last: usize,
    /// Destination of the results.
    pub out: Strip<'a>,
}

impl ColumnLoop for DepthwiseForward<'_> {
    #[inline(always)]
    fn make<L: Lanes, C: Store<L> + Store<L::Half>>(self) {
        by_shape!(self.shape, forward::<L, C>(self))
    }
}

#[inline(always)]
fn forward<L: Lanes, C: Store<L> + Store<L::Half>, const K: usize, const D: usize, const S: usize>(
    mut k: DepthwiseForward<'_>,
) {
    let (wide, height, width) = (k.map.padded_width(), k.map.height, k.map.strided(S).width);
    let reach = k.shape.reach();
    for block in 0..k.map.packs {
        let (out, place) = k.out.block::<L, C>(block);
        for (y, out) in k.rows.clone().zip(out.chunks_exact_mut(width)) {
            let taps = k.shape.rows(y * S, height);
            let row = DepthwiseRow {
                source: k.source,
                first: (block * height + y * S + taps.start * D - reach) * wide + HALO - reach,
                step: D * wide,
                rows: taps.len(),
                weight: k.weight,
                weight_first: (block * K + taps.start) * K,
                weight_step: K as isize,
                weight_x: 1,
            };
            let put = Put { gap: 1, add: false, gate: None, place };
            match L::HALVES && block + 1 == k.map.packs && k.last <= LANES / 2 {
                true => row_of::<L::Half, C, K, D, S>(row, width, 1, out, put),
                false => row_of::<L, C, K, D, S>(row, width, L::PARTS, out, put),
            }
        }
    }
}
