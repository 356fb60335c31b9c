//! The tile of a pointwise convolution: some registers of output channels times some pixels, summed over all input channels.

use core::sync::atomic::{Ordering, compiler_fence};

use super::layout::Channels;
use super::simd::{LANES, Lanes, Pack, PairProducts, Pairs};
use super::strip::{PairsOf, Singles, Store};

/// Factors, by how they lie in memory.
pub trait Factors<L: Lanes>: Store<L> {
    /// `w * x + sum`
    fn multiply(w: L, x: L, sum: L) -> L;
    /// The same of half a register.
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

/// What is multiplied.
#[derive(Copy, Clone)]
pub struct Operands<'a> {
    /// Channels of the input. Filling lanes are not read, but for the second of a pair.
    pub inputs: Channels,
    /// `[in block]` planes of `plane` packs; of pairs `[two in blocks]` of each map.
    pub source: &'a [Pack],
    /// Packs from one block to the next.
    pub plane: usize,
    /// `[out block][in lane]`; of pairs `[out block][pair of in lanes]`, whole packs of pairs.
    pub weight: &'a [Pack],
}

/// The sums of `N` registers, and of another half if it is asked for, by `P` pixels.
pub type Sums<L, const N: usize, const P: usize> = ([[L; P]; N], [<L as Lanes>::Half; P]);

/// Adds the products to `sums`: registers from `at` on, pixels from `pixel` on.
#[inline(always)]
pub fn add<L: Lanes, F: Factors<L>, const N: usize, const HALF: bool, const P: usize>(
    k: &Operands<'_>,
    at: usize,
    pixel: usize,
    (mut sums, mut halves): Sums<L, N, P>,
) -> Sums<L, N, P> {
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
        // One lane a turn: of several, compilers load the weights ahead and run out of registers for the sums. `% LANES` never
        // wraps: it spares a check.
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
                // Else one load of a pixel serves both, by a shuffle that takes a multiplier's turn.
                compiler_fence(Ordering::SeqCst);
                let last = L::Half::load(&half[lane], 0);
                for i in 0..P {
                    let x = L::Half::splat(source[i].0[(first + lane) % LANES]);
                    halves[i] = F::multiply_half(last, x, halves[i]);
                }
            }
        }
    }
    (sums, halves)
}

/// How many registers a tile takes of `whole` that are left, and whether the half behind them as well. Whole tiles of three, or of
/// two with half a one, fill 32 registers; single ones wait for their loads.
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

/// Whole registers that channels of a map fill, and whether a half remains.
#[inline(always)]
pub fn filled<L: Lanes>(channels: usize) -> (usize, bool) {
    let lanes = LANES / L::PARTS;
    let half = L::HALVES && (1..=lanes / 2).contains(&(channels % lanes));
    (if half { channels / lanes } else { channels.div_ceil(lanes) }, half)
}
