//! bfloat16 arithmetic. A bfloat16 is the upper half of an f32; values are rounded to nearest, ties to even.
//!
//! On processors that multiply [pairs](super::simd::Pairs), operands are [stored](super::strip::PairsOf) as pairs. On
//! others they are rounded and stay f32. Both give the same products, except for subnormal values.

use super::layout::Channels;
use super::simd::{Kernel, LANES, Lanes, Pack, floats_mut};

/// Rounds to the nearest bfloat16 value.
#[inline(always)]
pub fn round(x: f32) -> f32 {
    let bits = x.to_bits();
    let up = 0x7fff + (bits >> 16 & 1);
    // Adding to the bits of a NaN could produce a finite value.
    let rounded = if x.is_nan() { bits } else { bits.wrapping_add(up) };
    f32::from_bits(rounded & 0xffff_0000)
}

/// Kernel that rounds every value to bfloat16 in place.
pub struct Round<'a>(pub &'a mut [Pack]);

impl Kernel for Round<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        for x in floats_mut(self.0) {
            *x = round(*x);
        }
    }
}

/// Converts a pointwise weight `[out block][in lane]` to bfloat16 pairs `[out block][pair of in lanes]`. Each group
/// of input channels is filled with zeros to whole packs of pairs.
pub fn pair_weight(weight: &[Pack], inputs: Channels) -> Vec<Pack> {
    let each = inputs.each.div_ceil(LANES);
    let lanes = each.div_ceil(2) * LANES;
    let mut out = Vec::with_capacity(weight.len() / 2 + lanes);
    for columns in weight.chunks_exact(each * LANES) {
        let start = out.len();
        out.extend(columns.chunks_exact(2).map(|pair| {
            let [low, high] = [&pair[0], &pair[1]].map(|pack| pack.0.map(|x| round(x).to_bits()));
            Pack(std::array::from_fn(|lane| f32::from_bits(low[lane] >> 16 | high[lane])))
        }));
        out.resize(start + lanes, Pack::ZERO);
    }
    out
}
