//! Sixteen channels of one pixel, and the vector registers that process them.
//!
//! [`Pack`] is the memory layout, the same on every processor. [`Lanes`] is one register: a whole pack (AVX-512),
//! half of one (AVX2, portable) or a quarter (NEON). A kernel is a struct of its arguments with a generic
//! [`Kernel::run`]. [`Level::run`] selects the registers at run time, so a generic build is as fast as one for the
//! local processor. All unsafe code of the CPU kernels is in this module.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use portable::Portable;
#[cfg(target_arch = "x86_64")]
use x86::{Avx2, Avx512};

/// Channels in a pack.
pub const LANES: usize = 16;

/// Sixteen channels of one pixel, aligned to a cache line.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub struct Pack(pub [f32; LANES]);

impl Pack {
    /// Sixteen zeros.
    pub const ZERO: Pack = Pack([0.0; LANES]);
    /// Sixteen ones.
    pub const ONE: Pack = Pack([1.0; LANES]);
}

/// Returns the same memory as a slice of f32, channel by channel.
#[inline]
pub fn floats(packs: &[Pack]) -> &[f32] {
    // SAFETY: a Pack is sixteen consecutive f32, aligned more strictly than f32, without padding.
    unsafe { core::slice::from_raw_parts(packs.as_ptr().cast(), packs.len() * LANES) }
}

/// Returns the same memory as a mutable slice of f32, channel by channel.
#[inline]
pub fn floats_mut(packs: &mut [Pack]) -> &mut [f32] {
    // SAFETY: a Pack is sixteen consecutive f32, aligned more strictly than f32, without padding. The borrow is
    // exclusive.
    unsafe { core::slice::from_raw_parts_mut(packs.as_mut_ptr().cast(), packs.len() * LANES) }
}

/// One vector register of f32. `part` is the index of a register among those that make up a pack.
///
/// Code generic over this trait is `#[inline(always)]` and has no closures, from [`Kernel::run`] down. A function
/// that is not inlined is compiled without the processor's features, and each operation below then becomes a call.
pub trait Lanes: Copy {
    /// A register of half the number of lanes, or this type.
    type Half: Lanes;
    /// Whether an operation on half a register costs half as much.
    const HALVES: bool;
    /// Number of registers per pack, a power of two.
    const PARTS: usize;
    /// Whether the processor has 32 registers rather than 16.
    const MANY: bool;

    /// Returns the first half of the lanes.
    fn low(self) -> Self::Half;
    /// Extends half a register with zeros.
    fn widen(half: Self::Half) -> Self;
    /// Returns a register with `x` in all lanes.
    fn splat(x: f32) -> Self;
    /// Reads one part of a pack.
    fn load(from: &Pack, part: usize) -> Self;
    /// Reads one part of sixteen consecutive values, of any alignment.
    fn load_row(from: &[f32; LANES], part: usize) -> Self;
    /// Writes one part of a pack.
    fn store(self, to: &mut Pack, part: usize);
    /// Returns `self + b`.
    fn add(self, b: Self) -> Self;
    /// Returns `self * b`.
    fn mul(self, b: Self) -> Self;
    /// Returns `self * b + c`, rounded once except in the portable implementation.
    fn fma(self, b: Self, c: Self) -> Self;
    /// Returns the larger value of each lane.
    fn max(self, b: Self) -> Self;
    /// Returns `self` where `gate > 0`, else 0.
    fn gate(self, gate: Self) -> Self;
    /// Moves each lane of `self` to one of three results: the first if `a == max`, else the second if `b == max`,
    /// else the third. The other two results are 0.
    fn route(self, a: Self, b: Self, max: Self) -> [Self; 3];

    /// Returns a register of zeros.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }
    /// Returns `max(self, 0)`.
    #[inline(always)]
    fn relu(self) -> Self {
        self.max(Self::zero())
    }
}

/// A loop over packs. The implementing type is a struct of its arguments.
pub trait Kernel {
    /// Result of the loop.
    type Output;
    /// Runs the loop. Implementations are `#[inline(always)]`.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Registers that multiply pairs of bfloat16. A pair has the size of an f32: the first of two neighbouring channels
/// is in the low bits, the second in the high bits.
pub trait PairProducts: Lanes {
    /// Returns, lane by lane, `c` plus the products of the first values and of the second values of the pairs.
    fn pairs(self, b: Self, c: Self) -> Self;
    /// Rounds the lanes to nearest, ties to even, and writes them as pairs of neighbours. With `half == 0` they go to
    /// the first eight pairs of a pack, else to the last eight.
    fn store_pairs(self, to: &mut Pack, half: usize);
}

/// Registers that multiply pairs, and whose half registers do so too.
pub trait Pairs: PairProducts<Half: PairProducts> {}

impl<L: PairProducts<Half: PairProducts>> Pairs for L {}

/// A [`Kernel`] that operates on pairs of bfloat16.
pub trait PairKernel {
    /// Runs the loop. Implementations are `#[inline(always)]`.
    fn run<L: Pairs>(self);
}

/// An instruction set that this processor supports.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Level(Set);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

impl Level {
    /// Plain arrays, which every processor supports.
    pub const PORTABLE: Level = Level(Set::Portable);

    /// Returns all levels of this processor, fastest first. The last is portable.
    pub fn available() -> Vec<Level> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                levels.push(Level(Set::Avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Level(Set::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(Level(Set::Neon));
        levels.push(Level::PORTABLE);
        levels
    }

    /// Returns the fastest level of this processor.
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Level::available()[0])
    }

    /// Runs a kernel with this level's registers.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: only `available` makes this Level, after it detected AVX-512 F and VL.
            Set::Avx512 => unsafe { run_avx512(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: only `available` makes this Level, after it detected AVX2 and FMA.
            Set::Avx2 => unsafe { run_avx2(kernel) },
            #[cfg(target_arch = "aarch64")]
            Set::Neon => kernel.run::<neon::Neon>(),
            Set::Portable => kernel.run::<Portable>(),
        }
    }

    /// Whether this level and processor have registers that implement [`Pairs`].
    pub fn has_pairs(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Set::Avx512 {
            return is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw");
        }
        false
    }

    /// Runs a kernel on pairs of bfloat16.
    ///
    /// # Panics
    /// Panics if [`has_pairs`](Self::has_pairs) is false.
    #[inline]
    pub fn run_pairs<K: PairKernel>(self, kernel: K) {
        assert!(self.has_pairs(), "{self:?} multiplies no pairs of bfloat16");
        // SAFETY: only `available` makes an AVX-512 Level, after it detected AVX-512 F and VL. The assertion above
        // detected BF16, and BW, which compilers assume together with BF16.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            run_pairs(kernel)
        }
        #[cfg(not(target_arch = "x86_64"))]
        drop(kernel);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bf16")]
fn run_pairs<K: PairKernel>(kernel: K) {
    kernel.run::<Avx512>()
}
