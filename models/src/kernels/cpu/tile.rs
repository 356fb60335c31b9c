//! Tile of a pointwise convolution: some registers of output channels times some pixels, summed over all input
//! channels.

use core::sync::atomic::{Ordering, compiler_fence};

use super::layout::Channels;
use super::simd::{LANES, Lanes, Pack, PairProducts, Pairs};
use super::strip::{PairsOf, Singles, Store};

/// Multiplication of operands in a storage format.
pub trait Factors<L: Lanes>: Store<L> {
    /// Returns `w * x + sum`.
    fn multiply(w: L, x: L, sum: L) -> L;
    /// Returns `w * x + sum` for half registers.
    fn multiply_half(w: L::Half, x: L::Half, sum: L::Half) -> L::Half;
}

impl<L: Lanes> Factors<L> for Singles {
    #[inline(always)]
    fn multiply(w: L, x: L, sum: L) -> L {
        w.fma(x, sum)
    }
    #[inline(always)]
    fn multiply_half(w: L::Half, x: L::Half, sum: L::Half) -> L::Half {
        w.fma(x, sum)
    }
}

impl<L: Pairs> Factors<L> for PairsOf {
    #[inline(always)]
    fn multiply(w: L, x: L, sum: L) -> L {
        w.pairs(x, sum)
    }
    #[inline(always)]
    fn multiply_half(w: L::Half, x: L::Half, sum: L::Half) -> L::Half {
        w.pairs(x, sum)
    }
}

/// Operands of the multiplication.
#[derive(Copy, Clone)]
pub struct Operands<'a> {
    /// Channels of the input. Unused lanes are not read, except as the second value of a pair.
    pub inputs: Channels,
    /// Input: `[in block]` planes of `plane` packs; for pairs `[two in blocks]` of each feature map.
    pub source: &'a [Pack],
    /// Packs from one block to the next.
    pub plane: usize,
    /// Weights: `[out block][in lane]`; for pairs `[out block][pair of in lanes]` in whole packs.
    pub weight: &'a [Pack],
}

/// Sums of a tile, for `P` pixels each.
pub struct TileSums<L: Lanes, const N: usize, const P: usize> {
    /// Sums of `N` whole registers.
    pub whole: [[L; P]; N],
    /// Sums of the half register, which only a tile with `HALF` uses.
    pub half: [L::Half; P],
}

impl<L: Lanes, const N: usize, const P: usize> TileSums<L, N, P> {
    /// Returns sums of zero.
    #[inline(always)]
    pub fn zero() -> Self {
        TileSums { whole: [[L::zero(); P]; N], half: [L::Half::zero(); P] }
    }
}

/// Adds the products to `sums`, for registers from `at` on and pixels from `pixel` on.
#[inline(always)]
pub fn add<L: Lanes, F: Factors<L>, const N: usize, const HALF: bool, const P: usize>(
    k: &Operands<'_>,
    at: usize,
    pixel: usize,
    sums: TileSums<L, N, P>,
) -> TileSums<L, N, P> {
    let TileSums { whole: mut sums, half: mut halves } = sums;
    let column = k.inputs.shared(F::SHARE) * LANES;
    let (mut block, mut left) = (0, 0);
    for _ in 0..k.inputs.packs() {
        // `inputs.filled(block)` without its division.
        if left == 0 {
            left = k.inputs.each;
            block += block % F::SHARE;
        }
        let filled = left.min(LANES);
        left -= filled;
        let (pack, first) = (block / F::SHARE, block % F::SHARE * (LANES / F::SHARE));
        let count = filled.div_ceil(F::SHARE);
        let source = &k.source[pack * k.plane + pixel..][..P];
        let weights = |n: usize| (at + n) / L::PARTS * column + pack * LANES + first;
        let mut rows = [&k.weight[..0]; N];
        for n in 0..N {
            rows[n] = &k.weight[weights(n)..][..count];
        }
        block += 1;
        let half = if HALF { &k.weight[weights(N)..][..count] } else { &k.weight[..0] };
        // One lane per iteration. With several, compilers load the weights ahead and run out of registers for the
        // sums. `% LANES` never wraps; it avoids a bounds check.
        for lane in 0..count {
            let mut w = [L::zero(); N];
            for n in 0..N {
                w[n] = L::load(&rows[n][lane], (at + n) % L::PARTS);
            }
            for i in 0..P {
                let x = L::splat(source[i].0[(first + lane) % LANES]);
                for n in 0..N {
                    sums[n][i] = F::multiply(w[n], x, sums[n][i]);
                }
            }
            if HALF {
                // Without the fence, one load of a pixel serves both products by a shuffle, which occupies a
                // multiplier port.
                compiler_fence(Ordering::SeqCst);
                let last = L::Half::load(&half[lane], 0);
                for i in 0..P {
                    let x = L::Half::splat(source[i].0[(first + lane) % LANES]);
                    halves[i] = F::multiply_half(last, x, halves[i]);
                }
            }
        }
    }
    TileSums { whole: sums, half: halves }
}

/// Returns the number of registers that a tile takes of the `whole` that remain, and whether it takes the half
/// register after them. Tiles of three whole registers, or of two and a half, fill 32 registers. A tile of one
/// register waits for its loads.
#[inline(always)]
pub fn registers<L: Lanes>(whole: usize, half: bool) -> (usize, bool) {
    match (whole, half) {
        (0, half) => (0, half),
        (1, half) => (1, half),
        (2, half) => (2, half),
        (3, false) if L::MANY => (3, false),
        (5.., _) if L::MANY => (3, false),
        _ => (2, false),
    }
}

/// Returns the number of whole registers that the channels of a feature map fill, and whether half a register
/// remains.
#[inline(always)]
pub fn filled<L: Lanes>(channels: usize) -> (usize, bool) {
    let lanes = LANES / L::PARTS;
    let half = L::HALVES && (1..=lanes / 2).contains(&(channels % lanes));
    (if half { channels / lanes } else { channels.div_ceil(lanes) }, half)
}
