//! Depthwise convolution, 3x3 or 5x5, dilation and stride 1 or 2, padded so that stride 1 keeps the size.
//!
//! Inputs and output gradients come as padded maps ([`Map::padded_len`]); rows outside the image are
//! skipped. Weights are packs `[block][tap]`.

mod gradients;

use core::ops::Range;

use super::layout::{HALO, MapSize};
use super::simd::{LANES, Lanes, Pack};
use super::strip::{ColumnLoop, Store, Strip};

pub use gradients::{DepthwiseWeightGradient, InputGradient};

/// The make of a depthwise convolution.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DepthwiseShape {
    /// Side of the kernel, 3 or 5.
    pub kernel: usize,
    /// Distance of taps, 1 or 2.
    pub dilation: usize,
    /// 1 or 2.
    pub stride: usize,
}

impl DepthwiseShape {
    /// Taps of a channel.
    #[inline(always)]
    pub fn taps(self) -> usize {
        self.kernel * self.kernel
    }

    /// How far the taps reach to each side.
    #[inline(always)]
    fn reach(self) -> usize {
        (self.kernel - 1) * self.dilation / 2
    }

    /// The kernel rows that meet a row of the image when the middle one lies on row `middle`.
    #[inline(always)]
    fn rows(self, middle: usize, height: usize) -> Range<usize> {
        let (reach, d) = (self.reach(), self.dilation);
        reach.saturating_sub(middle).div_ceil(d)..self.kernel.min((height - 1 + reach - middle) / d + 1)
    }
}

/// Calls `$f::<.., kernel, dilation, stride>` for a [`Depthwise`].
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

/// One row of results: which taps meet it, and where they and their weights lie.
#[derive(Copy, Clone)]
struct DepthwiseRow<'a> {
    /// A padded map.
    source: &'a [Pack],
    /// The leftmost tap of the first row of taps, for result 0.
    first: usize,
    /// To the next row of taps.
    step: usize,
    /// Rows of taps.
    rows: usize,
    weight: &'a [Pack],
    /// The weight of the first tap, and the steps to that of the next row and the next column.
    weight_first: usize,
    weight_step: isize,
    weight_x: isize,
}

/// What becomes of results.
#[derive(Copy, Clone)]
struct Put<'a> {
    /// From one result's place to the next.
    gap: usize,
    /// Whether to add to what is there rather than set it.
    add: bool,
    /// Zeroes results where this, at the results' places, is not positive.
    gate: Option<&'a [Pack]>,
    /// Which of the blocks that share a pack.
    place: usize,
}

/// Results `x..x + X` of a row.
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

/// The first `parts` registers of `count` results of a row.
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

/// Some rows of the convolution.
pub struct DepthwiseForward<'a> {
    /// The convolution.
    pub shape: DepthwiseShape,
    /// Size of the input.
    pub map: MapSize,
    /// The input, padded.
    pub source: &'a [Pack],
    /// `[block][tap]`.
    pub weight: &'a [Pack],
    /// Which rows of the output.
    pub rows: Range<usize>,
    /// Channels of the last block that are wanted.
    pub last: usize,
    /// Where they go.
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
