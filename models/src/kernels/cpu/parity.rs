//! The two inputs of a strided skip connection (FactorizedReduce), side by side: the pixels of even
//! row and column, and those of odd row and column.
//!
//! Where a side is odd the odd pixels are one fewer; a zero row or column at the end makes up for it.

use core::ops::Range;

use super::layout::MapSize;
use super::simd::{Kernel, Lanes, Pack};
use super::strip::{ColumnLoop, Store, Strip};

/// Rectified even and odd pixels, `[even blocks, odd blocks]` of some rows.
pub struct ParityGather<'a> {
    /// Size of the input.
    pub map: MapSize,
    /// The input, plain.
    pub source: &'a [Pack],
    /// Which rows of the output, whose size is half of the input's, rounded up.
    pub rows: Range<usize>,
    /// Blocks from the even ones to the odd ones.
    pub half: usize,
    /// Where they go.
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

/// The gradient of [`Gather`] without its rectifier, added to `out`.
pub struct ParityScatter<'a> {
    /// Size of the input.
    pub map: MapSize,
    /// `[even blocks]` planes of half the size, rounded up.
    pub even: &'a [Pack],
    /// `[odd blocks]` planes of half the size, rounded up.
    pub odd: &'a [Pack],
    /// A plain map of the input's size.
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
