//! Gradients of a depthwise convolution.

use super::super::layout::{HALO, MapSize};
use super::super::simd::{Kernel, Lanes, Pack};
use super::super::strip::Singles;
use super::{DepthwiseRow, DepthwiseShape, Put, by_shape, row_of};

/// Kernel that computes the gradient of the input.
pub struct InputGradient<'a> {
    /// Shape of the convolution.
    pub shape: DepthwiseShape,
    /// Size of the input.
    pub map: MapSize,
    /// The gradient of the output, padded.
    pub gradient: &'a [Pack],
    /// Weights, `[block][tap]`.
    pub weight: &'a [Pack],
    /// Whether to add to `out` instead of overwriting it.
    pub add: bool,
    /// Input of the ReLU before the convolution, without padding. If present, the gradient is also propagated through
    /// the ReLU.
    pub gate: Option<&'a [Pack]>,
    /// Gradient of the input, without padding.
    pub out: &'a mut [Pack],
}

impl Kernel for InputGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        if self.shape.stride == 1 {
            match (self.shape.kernel, self.shape.dilation) {
                (3, 1) => input_gradient::<L, 3, 1>(self),
                (3, 2) => input_gradient::<L, 3, 2>(self),
                (5, 1) => input_gradient::<L, 5, 1>(self),
                (5, 2) => input_gradient::<L, 5, 2>(self),
                _ => panic!("no depthwise kernel {:?}", self.shape),
            }
        } else {
            if !self.add {
                self.out.fill(Pack::ZERO);
            }
            strided_input_gradient::<L>(self)
        }
    }
}

/// Stride 1: a convolution of the output gradient with the kernel rotated by 180 degrees.
#[inline(always)]
fn input_gradient<L: Lanes, const K: usize, const D: usize>(k: InputGradient<'_>) {
    let (wide, height, width) = (k.map.padded_width(), k.map.height, k.map.width);
    let reach = k.shape.reach();
    for (line, out) in k.out.chunks_exact_mut(width).enumerate().take(k.map.packs * height) {
        let (block, y) = (line / height, line % height);
        let taps = k.shape.rows(y, height);
        let row = DepthwiseRow {
            source: k.gradient,
            first: (block * height + y + taps.start * D - reach) * wide + HALO - reach,
            step: D * wide,
            rows: taps.len(),
            weight: k.weight,
            weight_first: block * K * K + K * K - 1 - taps.start * K,
            weight_step: -(K as isize),
            weight_x: -1,
        };
        let gate = k.gate.map(|gate| &gate[line * width..][..width]);
        row_of::<L, Singles, K, D, 1>(row, width, L::PARTS, out, Put { gap: 1, add: k.add, gate, place: 0 });
    }
}

/// Stride 2: a pixel uses only the taps with `(pixel + reach - dilation * tap)` even, and reads the gradient at half
/// that position. Which taps these are depends on the parity of its row and column.
#[inline(always)]
fn strided_input_gradient<L: Lanes>(k: InputGradient<'_>) {
    let (kernel, d, reach) = (k.shape.kernel, k.shape.dilation, k.shape.reach());
    let (small, height, width) = (k.map.strided(2), k.map.height, k.map.width);
    let wide = small.padded_width();
    // Distance between two taps that a pixel uses, in taps. The gradient position moves back by one pixel.
    let skip = 2 / d;
    let last_seen = |parity: usize| (0..kernel).rev().find(|t| (parity + reach + t * d).is_multiple_of(2));
    for block in 0..k.map.packs {
        for y in 0..height {
            let Some(last) = last_seen(y % 2) else { continue };
            // Taps last, last - skip, ... belong to gradient rows top, top + 1, ...
            let seen = last / skip + 1;
            let top = (y + reach) as isize - (last * d) as isize;
            let top = top / 2;
            let below = (-top).max(0) as usize;
            let rows = (small.height as isize - top).clamp(0, seen as isize) as usize;
            if rows <= below {
                continue;
            }
            for parity in 0..width.min(2) {
                let Some(last_x) = last_seen(parity) else { continue };
                let left = ((parity + reach) as isize - (last_x * d) as isize) / 2;
                let row = DepthwiseRow {
                    source: k.gradient,
                    first: (((block * small.height) as isize + top + below as isize) * wide as isize
                        + HALO as isize
                        + left) as usize,
                    step: wide,
                    rows: rows - below,
                    weight: k.weight,
                    weight_first: (block * kernel + last - below * skip) * kernel + last_x,
                    weight_step: -((skip * kernel) as isize),
                    weight_x: -(skip as isize),
                };
                let count = (width - parity).div_ceil(2);
                let first = (block * height + y) * width + parity;
                let out = &mut k.out[first..];
                let put = Put { gap: 2, add: true, gate: k.gate.map(|gate| &gate[first..]), place: 0 };
                match last_x / skip + 1 {
                    1 => row_of::<L, Singles, 1, 1, 1>(row, count, L::PARTS, out, put),
                    2 => row_of::<L, Singles, 2, 1, 1>(row, count, L::PARTS, out, put),
                    3 => row_of::<L, Singles, 3, 1, 1>(row, count, L::PARTS, out, put),
                    _ => row_of::<L, Singles, 5, 1, 1>(row, count, L::PARTS, out, put),
                }
            }
        }
    }
}

/// Kernel that adds the gradient of the weights to `out`.
pub struct DepthwiseWeightGradient<'a> {
    /// Shape of the convolution.
    pub shape: DepthwiseShape,
    /// Size of the input.
    pub map: MapSize,
    /// The input, padded.
    pub source: &'a [Pack],
    /// The gradient of the output, padded.
    pub gradient: &'a [Pack],
    /// Gradient of the weights, `[block][tap]`.
    pub out: &'a mut [Pack],
}

impl Kernel for DepthwiseWeightGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        by_shape!(self.shape, weight_gradient::<L>(self))
    }
}

#[inline(always)]
fn weight_gradient<L: Lanes, const K: usize, const D: usize, const S: usize>(
    mut k: DepthwiseWeightGradient<'_>,
) {
    for block in 0..k.map.packs {
        for ky in 0..K {
            for part in 0..L::PARTS {
                // Pixels alternate between several sets of sums, which gives enough independent chains of additions.
                if K == 3 {
                    weight_row::<L, K, D, S, 4>(&mut k, block, ky, part);
                } else {
                    weight_row::<L, K, D, S, 2>(&mut k, block, ky, part);
                }
            }
        }
    }
}

/// Pixels per inner step of the weight gradient.
const RUN: usize = 8;

/// Adds the contribution of `RUN` pixels to the gradient of a row of taps.
#[inline(always)]
fn weight_run<
    L: Lanes,
    const K: usize,
    const D: usize,
    const S: usize,
    const SETS: usize,
    const RUN: usize,
>(
    source: &[Pack],
    gradient: &[Pack],
    part: usize,
    sums: &mut [[L; K]; SETS],
) {
    let (source, gradient) = (&source[..(RUN - 1) * S + (K - 1) * D + 1], &gradient[..RUN]);
    for (i, gradient) in gradient.iter().enumerate() {
        let g = L::load(gradient, part);
        for kx in 0..K {
            sums[i % SETS][kx] = L::load(&source[i * S + kx * D], part).fma(g, sums[i % SETS][kx]);
        }
    }
}

/// Computes the gradient of one row of taps of one block.
#[inline(always)]
fn weight_row<L: Lanes, const K: usize, const D: usize, const S: usize, const SETS: usize>(
    k: &mut DepthwiseWeightGradient<'_>,
    block: usize,
    ky: usize,
    part: usize,
) {
    let (MapSize { height, .. }, small) = (k.map, k.map.strided(S));
    let reach = k.shape.reach();
    let mut sums = [[L::zero(); K]; SETS];
    for y in 0..small.height {
        if !k.shape.rows(y * S, height).contains(&ky) {
            continue;
        }
        let from = (block * height + y * S + ky * D - reach) * k.map.padded_width() + HALO - reach;
        let source = &k.source[from..][..(small.width - 1) * S + (K - 1) * D + 1];
        let from = (block * small.height + y) * small.padded_width() + HALO;
        let gradient = &k.gradient[from..][..small.width];
        let mut x = 0;
        while x + RUN <= small.width {
            weight_run::<L, K, D, S, SETS, RUN>(&source[x * S..], &gradient[x..], part, &mut sums);
            x += RUN;
        }
        while x < small.width {
            weight_run::<L, K, D, S, SETS, 1>(&source[x * S..], &gradient[x..], part, &mut sums);
            x += 1;
        }
    }
    for kx in 0..K {
        let out = &mut k.out[(block * K + ky) * K + kx];
        let mut total = L::load(out, part);
        for set in &sums {
            total = total.add(set[kx]);
        }
        total.store(out, part);
    }
}
