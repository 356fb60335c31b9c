//! Columns of a strip of pixels, which a pointwise convolution reads: how they lie there, and where kernels leave them.

use super::simd::{Kernel, Lanes, Level, Pack, PairKernel, PairProducts, Pairs};

/// How numbers lie in a strip.
pub trait Store<L: Lanes> {
    /// Blocks of channels that share a pack.
    const SHARE: usize;
    /// Puts a register of one of those blocks, the `place`th, into their pack.
    fn put(value: L, to: &mut Pack, part: usize, place: usize);
}

/// As f32.
pub struct Singles;
/// As pairs of bfloat16 of neighbouring channels, rounded to nearest, ties to even. The second half of an odd block's packs is left as
/// it is.
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

/// Where columns go.
pub struct Strip<'a> {
    /// `[block][pixel]`; of pairs `[two blocks][pixel]`.
    pub packs: &'a mut [Pack],
    /// Pixels of the strip.
    pub pixels: usize,
    /// Blocks before the first of those that a kernel makes.
    pub before: usize,
    /// Blocks of a map; those of one share no pack with those of another.
    pub each: usize,
}

impl<'a> Strip<'a> {
    /// Of one map of numbers.
    pub fn new(packs: &'a mut [Pack], pixels: usize) -> Strip<'a> {
        Strip { packs, pixels, before: 0, each: usize::MAX }
    }

    /// The packs of a block, and its place in them among those that [share](Store::SHARE) them.
    #[inline(always)]
    pub fn block<L: Lanes, C: Store<L>>(&mut self, block: usize) -> (&mut [Pack], usize) {
        let share = C::SHARE;
        let (map, block) = ((self.before + block) / self.each, (self.before + block) % self.each);
        let pack = map * self.each.div_ceil(share) + block / share;
        (&mut self.packs[pack * self.pixels..][..self.pixels], block % share)
    }
}

/// A loop that leaves columns, however they lie; as a [`Kernel`] it leaves numbers, and [`InPairs`] pairs.
pub trait ColumnLoop {
    /// The loop itself; implementations are `#[inline(always)]`.
    fn make<L: Lanes, C: Store<L> + Store<L::Half>>(self);
}

/// A kernel whose columns are pairs.
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

/// Runs a kernel on numbers or on pairs.
///
/// # Panics
/// Where there are no registers of pairs.
pub fn run<K: Kernel<Output = ()>>(level: Level, pairs: bool, kernel: K)
where
    InPairs<K>: PairKernel,
{
    match pairs {
        true => level.run_pairs(InPairs(kernel)),
        false => level.run(kernel),
    }
}
