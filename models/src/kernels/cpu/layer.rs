//! Pointwise convolution in evaluation mode, fused with its neighbours. It starts from a bias and an optional feature
//! map. It writes any of three outputs: the results, their ReLU with padding for a depthwise convolution, and their
//! ReLU as operands of a pointwise convolution.

use super::layout::{Channels, HALO};
use super::simd::{Kernel, Lanes, Pack, PairKernel, Pairs};
use super::strip::{InPairs, PairsOf, Singles};
use super::tile::{self, Factors, Operands, TileSums};

/// Kernel that computes some rows of the output. Unused lanes become zero.
pub struct Layer<'a, 'b> {
    /// Input columns of the rows, and weights.
    pub operands: Operands<'a>,
    /// Channels of the output, in one group.
    pub outputs: Channels,
    /// Bias of each channel, `[out block]`.
    pub bias: &'a [Pack],
    /// Total number of pixels in the rows.
    pub pixels: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Values that the sums start from, in addition to the bias.
    pub start: Accumulator<'a>,
    /// Destination of the results: one slice per block, from the first row on.
    pub plain: Option<&'a mut [&'b mut [Pack]]>,
    /// Destination of the results after ReLU, with padding: one slice per block, rows with `HALO` packs on each side.
    /// The padding is not written.
    pub padded: Option<&'a mut [&'b mut [Pack]]>,
    /// Destination of the results after ReLU as operands of other convolutions: one slice per block, or per two
    /// blocks for pairs. Rows have no padding.
    pub factors: Option<&'a mut [&'b mut [Pack]]>,
    /// Number of rows to skip at the start of each of the three destinations.
    pub skip: usize,
}

/// Values that the results are added to.
#[derive(Copy, Clone)]
pub enum Accumulator<'a> {
    /// No values.
    Zero,
    /// The values in `plain`.
    Plain,
    /// A feature map: `[block]` planes of the given number of packs, from the first row on.
    Map(&'a [Pack], usize),
}

impl Kernel for Layer<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        strips::<L, Singles>(&mut self);
    }
}

impl PairKernel for InPairs<Layer<'_, '_>> {
    #[inline(always)]
    fn run<L: Pairs>(mut self) {
        strips::<L, PairsOf>(&mut self.0);
    }
}

#[inline(always)]
fn strips<L: Lanes, F: Factors<L>>(k: &mut Layer<'_, '_>) {
    let (mut whole, mut half) = tile::filled::<L>(k.outputs.each);
    let mut at = 0;
    while whole > 0 || half {
        let (taken, with_half) = tile::registers::<L>(whole, half);
        match (taken, with_half) {
            (3, _) => strip::<L, F, 3, false, 8>(k, at),
            (2, true) => strip::<L, F, 2, true, 8>(k, at),
            (1, true) => strip::<L, F, 1, true, 8>(k, at),
            (0, _) => strip::<L, F, 0, true, 8>(k, at),
            (2, _) if L::MANY => strip::<L, F, 2, false, 8>(k, at),
            (2, _) => strip::<L, F, 2, false, 4>(k, at),
            _ => strip::<L, F, 1, false, 8>(k, at),
        }
        at += taken + usize::from(with_half);
        (whole, half) = (whole - taken, half && !with_half);
    }
    for at in at..k.outputs.packs() * L::PARTS {
        let mut places = PixelTargets::first(k);
        for _ in 0..k.pixels {
            end::<L, F, 1>(k, at, true, &places, [L::zero()]);
            places.next(k.width);
        }
    }
}

/// Positions of a pixel in the destinations.
struct PixelTargets {
    x: usize,
    plain: usize,
    padded: usize,
}

impl PixelTargets {
    #[inline(always)]
    fn first(k: &Layer<'_, '_>) -> PixelTargets {
        PixelTargets { x: 0, plain: k.skip * k.width, padded: k.skip * (k.width + 2 * HALO) + HALO }
    }

    #[inline(always)]
    fn next(&mut self, width: usize) {
        self.plain += 1;
        self.padded += 1;
        self.x += 1;
        if self.x == width {
            self.x = 0;
            self.padded += 2 * HALO;
        }
    }
}

/// Computes all pixels of `N` registers of output channels, and of a half register after them if `HALF`.
#[inline(always)]
fn strip<L: Lanes, F: Factors<L>, const N: usize, const HALF: bool, const P: usize>(
    k: &mut Layer<'_, '_>,
    at: usize,
) {
    let mut places = PixelTargets::first(k);
    let mut pixel = 0;
    while pixel + P <= k.pixels {
        pixels::<L, F, N, HALF, P>(k, at, pixel, &mut places);
        pixel += P;
    }
    while pixel < k.pixels {
        pixels::<L, F, N, HALF, 1>(k, at, pixel, &mut places);
        pixel += 1;
    }
}

#[inline(always)]
fn pixels<L: Lanes, F: Factors<L>, const N: usize, const HALF: bool, const P: usize>(
    k: &mut Layer<'_, '_>,
    at: usize,
    pixel: usize,
    places: &mut PixelTargets,
) {
    let mut sums = TileSums::<L, N, P>::zero();
    for n in 0..N {
        sums.whole[n] = begin::<L, P>(k, at + n, pixel, places);
    }
    if HALF {
        let whole = begin::<L, P>(k, at + N, pixel, places);
        for i in 0..P {
            sums.half[i] = whole[i].low();
        }
    }
    let TileSums { whole, half } = tile::add::<L, F, N, HALF, P>(&k.operands, at, pixel, sums);
    // Inside a row, where nearly all tiles are, destinations are consecutive.
    let within = places.x + P <= k.width;
    for n in 0..N {
        end::<L, F, P>(k, at + n, within, places, whole[n]);
    }
    if HALF {
        let mut wide = [L::zero(); P];
        for i in 0..P {
            wide[i] = L::widen(half[i]);
        }
        end::<L, F, P>(k, at + N, within, places, wide);
    }
    for _ in 0..P {
        places.next(k.width);
    }
}

/// Returns the initial sums of a register.
#[inline(always)]
fn begin<L: Lanes, const P: usize>(
    k: &Layer<'_, '_>,
    at: usize,
    pixel: usize,
    places: &PixelTargets,
) -> [L; P] {
    let (block, part) = (at / L::PARTS, at % L::PARTS);
    let mut sums = [L::load(&k.bias[block], part); P];
    let from = match (k.start, &k.plain) {
        (Accumulator::Map(map, plane), _) => &map[block * plane + pixel..][..P],
        (Accumulator::Plain, Some(plain)) => &plain[block][places.plain..][..P],
        _ => return sums,
    };
    for i in 0..P {
        sums[i] = sums[i].add(L::load(&from[i], part));
    }
    sums
}

/// Writes the results of a register to the destinations.
#[inline(always)]
fn end<L: Lanes, F: Factors<L>, const P: usize>(
    k: &mut Layer<'_, '_>,
    at: usize,
    within: bool,
    places: &PixelTargets,
    values: [L; P],
) {
    let (block, part) = (at / L::PARTS, at % L::PARTS);
    if let Some(plain) = &mut k.plain {
        let to = &mut plain[block][places.plain..][..P];
        for i in 0..P {
            values[i].store(&mut to[i], part);
        }
    }
    if let Some(factors) = &mut k.factors {
        let to = &mut factors[block / F::SHARE][places.plain..][..P];
        for i in 0..P {
            F::put(values[i].relu(), &mut to[i], part, block % F::SHARE);
        }
    }
    let Some(padded) = &mut k.padded else { return };
    if within {
        let to = &mut padded[block][places.padded..][..P];
        for i in 0..P {
            values[i].relu().store(&mut to[i], part);
        }
        return;
    }
    let mut place = PixelTargets { ..*places };
    for i in 0..P {
        values[i].relu().store(&mut padded[block][place.padded], part);
        place.next(k.width);
    }
}
