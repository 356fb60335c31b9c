//! Activation codes of an image: one bit per ReLU output, set where the output is positive (NASWOT, section 3).

use super::simd::{Kernel, LANES, Lanes, Pack};

/// Packs whose bits fill a `u64`.
const PACKS: usize = 64 / LANES;

/// Number of `u64` values in the code of `packs` packs.
pub fn words(packs: usize) -> usize {
    packs.div_ceil(PACKS)
}

/// Kernel that computes the bits of `scale * source + shift > 0`.
pub struct Signs<'a> {
    /// Pixels of the feature map.
    pub pixels: usize,
    /// The feature map, without padding.
    pub source: &'a [Pack],
    /// Factor of each channel, `[block]`.
    pub scale: &'a [Pack],
    /// Addend of each channel, `[block]`.
    pub shift: &'a [Pack],
    /// The code of the feature map, overwritten. Its length is [`words`] of the number of packs.
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

/// Kernel that counts the bits in which two codes differ (the Hamming distance).
pub struct Differing<'a> {
    /// The first code.
    pub left: &'a [u64],
    /// The second code, of the same length.
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
