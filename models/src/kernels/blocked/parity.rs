//! The two inputs of a strided skip connection (FactorizedReduce), side by side: the pixels of even
//! row and column, and those of odd row and column.
//!
//! Where a side is odd the odd pixels are one fewer; a zero row or column at the end makes up for it.

use core::ops::Range;

use super::layout::Map;
use super::simd::{Kernel, Lanes, Pack};

/// Rectified even and odd pixels: `out` is `[even blocks, odd blocks][row][column]` of some rows.
pub struct Gather<'a> {
    /// Size of the input.
    pub map: Map,
    /// The input, plain.
    pub source: &'a [Pack],
    /// Which rows of the output, whose size is half of the input's, rounded up.
    pub rows: Range<usize>,
    /// Packs from one output block to the next.
    pub out_plane: usize,
    /// Packs from the even blocks to the odd ones.
    pub out_half: usize,
    /// Where they go.
    pub out: &'a mut [Pack],
}

impl Kernel for Gather<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Map { packs, height, width } = self.map;
        let small = self.map.strided(2).width;
        for parity in 0..2 {
            for block in 0..packs {
                for (i, y) in self.rows.clone().enumerate() {
                    let first = parity * self.out_half + block * self.out_plane + i * small;
                    let out = &mut self.out[first..][..small];
                    let row = 2 * y + parity;
                    if row >= height {
                        out.fill(Pack::ZERO);
                        continue;
                    }
                    let source = &self.source[(block * height + row) * width..][..width];
                    for (x, to) in out.iter_mut().enumerate() {
                        match source.get(2 * x + parity) {
                            Some(from) => {
                                for part in 0..L::PARTS {
                                    L::load(from, part).relu().store(to, part);
                                }
                            }
                            None => *to = Pack::ZERO,
                        }
                    }
                }
            }
        }
    }
}

/// The gradient of [`Gather`] without its rectifier, added to `out`.
pub struct Scatter<'a> {
    /// Size of the input.
    pub map: Map,
    /// `[even blocks]` planes of half the size, rounded up.
    pub even: &'a [Pack],
    /// `[odd blocks]` planes of half the size, rounded up.
    pub odd: &'a [Pack],
    /// A plain map of the input's size.
    pub out: &'a mut [Pack],
}

impl Kernel for Scatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Map { packs, height, width } = self.map;
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
