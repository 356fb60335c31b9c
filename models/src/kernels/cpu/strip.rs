//! The im2col columns of a strip of pixels, which a pointwise convolution reads: their memory layout, and how kernels
//! write them.

use super::simd::{Kernel, Lanes, Level, Pack, PairKernel, PairProducts, Pairs};

/// Storage format of the values in a strip.
pub trait Store<L: Lanes> {
    /// Number of channel blocks that share a pack.
    const SHARE: usize;
    /// Writes a register of one block to the shared pack. `place` is the index of the block among those that share
    /// the pack.
    fn put(value: L, to: &mut Pack, part: usize, place: usize);
}

/// Storage as f32.
pub struct Singles;
/// Storage as bfloat16 pairs of neighbouring channels, rounded to nearest, ties to even. If the number of blocks is
/// odd, the second half of the last packs is not written.
pub struct PairsOf;

impl<L: Lanes> Store<L> for Singles {
    const SHARE: usize = 1;
    #[inline(always)]
    fn put(value: L, to: &mut Pack, part: usize, _place: usize) {
        value.store(to, part);
    }
}

impl<L: PairProducts> Store<L> for PairsOf {
    const SHARE: usize = 2;
    #[inline(always)]
    fn put(value: L, to: &mut Pack, _part: usize, place: usize) {
        value.store_pairs(to, place);
    }
}

/// Destination of the columns.
pub struct Strip<'a> {
    /// The columns, `[block][pixel]`; for pairs `[two blocks][pixel]`.
    pub packs: &'a mut [Pack],
    /// Number of pixels of the strip.
    pub pixels: usize,
    /// Number of blocks before the first block that a kernel writes.
    pub before: usize,
    /// Number of blocks of a feature map. Blocks of different feature maps do not share a pack.
    pub each: usize,
}

impl<'a> Strip<'a> {
    /// Returns a strip for one feature map.
    pub fn new(packs: &'a mut [Pack], pixels: usize) -> Strip<'a> {
        Strip { packs, pixels, before: 0, each: usize::MAX }
    }

    /// Returns the packs of a block, and its index among the blocks that [share](Store::SHARE) them.
    #[inline(always)]
    pub fn block<L: Lanes, C: Store<L>>(&mut self, block: usize) -> (&mut [Pack], usize) {
        let share = C::SHARE;
        let (map, block) = ((self.before + block) / self.each, (self.before + block) % self.each);
        let pack = map * self.each.div_ceil(share) + block / share;
        (&mut self.packs[pack * self.pixels..][..self.pixels], block % share)
    }
}

/// A loop that writes columns in any storage format. As a [`Kernel`] it writes f32, in [`InPairs`] it writes pairs.
pub trait ColumnLoop {
    /// Runs the loop. Implementations are `#[inline(always)]`.
    fn make<L: Lanes, C: Store<L> + Store<L::Half>>(self);
}

/// A kernel that writes its columns as pairs.
pub struct InPairs<K>(pub K);

impl<K: ColumnLoop> Kernel for K {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        self.make::<L, Singles>();
    }
}

impl<K: ColumnLoop> PairKernel for InPairs<K> {
    #[inline(always)]
    fn run<L: Pairs>(self) {
        self.0.make::<L, PairsOf>();
    }
}

/// Runs a kernel on f32, or on pairs if `pairs`.
///
/// # Panics
/// Panics if `pairs` is set and the level has no registers that multiply pairs.
pub fn run<K: Kernel<Output = ()>>(level: Level, pairs: bool, kernel: K)
where
    InPairs<K>: PairKernel,
{
    match pairs {
        true => level.run_pairs(InPairs(kernel)),
        false => level.run(kernel),
    }
}
