//! The two inputs of a strided skip connection (FactorizedReduce), concatenated: the pixels of even row and column,
//! and the pixels of odd row and column.
//!
//! If a side has odd length, it has one odd pixel fewer; a zero row or column is appended.

use core::ops::Range;

use super::layout::MapSize;
use super::simd::{Kernel, Lanes, Pack};
use super::strip::{ColumnLoop, Store, Strip};

/// Kernel that gathers even and odd pixels after ReLU, `[even blocks, odd blocks]`, for some rows.
pub struct ParityGather<'a> {
    /// Size of the input.
    pub map: MapSize,
    /// The input, without padding.
    pub source: &'a [Pack],
    /// Range of the output rows to compute. The output has half the size of the input, rounded up.
    pub rows: Range<usize>,
    /// Number of blocks from the even ones to the odd ones.
    pub half: usize,
    /// Destination of the results.
    pub out: Strip<'a>,
}

impl ColumnLoop for ParityGather<'_> {
    #[inline(always)]
    fn make<L: Lanes, C: Store<L> + Store<L::Half>>(mut self) {
        let MapSize { packs, height, width } = self.map;
        let small = self.map.strided(2).width;
        for parity in 0..2 {
            for block in 0..packs {
                let (out, place) = self.out.block::<L, C>(parity * self.half + block);
                for (y, out) in self.rows.clone().zip(out.chunks_exact_mut(small)) {
                    let row = 2 * y + parity;
                    let source = &self.source[(block * height + row.min(height - 1)) * width..][..width];
                    let inside = if row < height { width } else { 0 };
                    for (x, to) in out.iter_mut().enumerate() {
                        let from = source[..inside].get(2 * x + parity).unwrap_or(&Pack::ZERO);
                        for part in 0..L::PARTS {
                            C::put(L::load(from, part).relu(), to, part, place);
                        }
                    }
                }
            }
        }
    }
}

/// Kernel that adds the gradient of [`ParityGather`], without its ReLU, to `out`.
pub struct ParityScatter<'a> {
    /// Size of the input.
    pub map: MapSize,
    /// Gradient of the even pixels: `[even blocks]` planes of half the input's size, rounded up.
    pub even: &'a [Pack],
    /// Gradient of the odd pixels: `[odd blocks]` planes of half the input's size, rounded up.
    pub odd: &'a [Pack],
    /// Gradient of the input, without padding.
    pub out: &'a mut [Pack],
}

impl Kernel for ParityScatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let MapSize { packs, height, width } = self.map;
        let small = self.map.strided(2);
        for block in 0..packs {
            for y in 0..height {
                let from = if y % 2 == 0 { self.even } else { self.odd };
                let from = &from[(block * small.height + y / 2) * small.width..][..small.width];
                let out = &mut self.out[(block * height + y) * width..][..width];
                for (to, from) in out.iter_mut().skip(y % 2).step_by(2).zip(from) {
                    for part in 0..L::PARTS {
                        L::load(to, part).add(L::load(from, part)).store(to, part);
                    }
                }
            }
        }
    }
}
