//! Codes of an image: a bit for every rectified unit, set where it is positive (NASWOT, section 3).

use super::simd::{Kernel, LANES, Lanes, Pack};

/// Packs whose bits fill a word.
const PACKS: usize = 64 / LANES;

/// Words for the code of so many packs.
pub fn words(packs: usize) -> usize {
    packs.div_ceil(PACKS)
}

/// Bit by bit `scale * source + shift > 0`.
pub struct Signs<'a> {
    /// Pixels of the map.
    pub pixels: usize,
    /// The map.
    pub source: &'a [Pack],
    /// `[block]` factors.
    pub scale: &'a [Pack],
    /// `[block]` terms.
    pub shift: &'a [Pack],
    /// [`words`] of the map, set.
    pub out: &'a mut [u64],
}

impl Kernel for Signs<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let mut value = Pack::ZERO;
        for (word, packs) in self.out.iter_mut().zip(self.source.chunks(PACKS).enumerate()) {
            *word = 0;
            let (at, packs) = packs;
            for (i, pack) in packs.iter().enumerate() {
                let block = (at * PACKS + i) / self.pixels;
                for part in 0..L::PARTS {
                    let (scale, shift) =
                        (L::load(&self.scale[block], part), L::load(&self.shift[block], part));
                    L::load(pack, part).fma(scale, shift).store(&mut value, part);
                }
                for (lane, x) in value.0.iter().enumerate() {
                    *word |= u64::from(*x > 0.0) << (i * LANES + lane);
                }
            }
        }
    }
}

/// In how many bits two codes differ.
pub struct Differing<'a> {
    /// One code.
    pub left: &'a [u64],
    /// The other, of the same length.
    pub right: &'a [u64],
}

impl Kernel for Differing<'_> {
    type Output = u64;
    #[inline(always)]
    fn run<L: Lanes>(self) -> u64 {
        let mut sum = 0;
        for (left, right) in self.left.iter().zip(self.right) {
            sum += u64::from((left ^ right).count_ones());
        }
        sum
    }
}
