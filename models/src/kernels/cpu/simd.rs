//! Sixteen channels at one pixel, and the vector registers that work on them.
//!
//! [`Pack`] is how they lie in memory, whatever the processor. [`Lanes`] is one register: all of a
//! pack (AVX-512), a half (AVX2, portable) or a quarter (NEON). A kernel is a struct of its
//! arguments with a generic [`Kernel::run`]; [`Level::run`] picks the registers at run time, so that a
//! plain build is as fast as one for the machine at hand. Every unsafe line of the blocked
//! kernels is here.
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

/// The same memory, channel by channel.
#[inline]
pub fn floats(packs: &[Pack]) -> &[f32] {
    // SAFETY: a Pack is sixteen consecutive f32, aligned more strictly than f32, without padding.
    unsafe { core::slice::from_raw_parts(packs.as_ptr().cast(), packs.len() * LANES) }
}

/// The same memory, channel by channel, to write to.
#[inline]
pub fn floats_mut(packs: &mut [Pack]) -> &mut [f32] {
    // SAFETY: as in `floats`, and the borrow is exclusive.
    unsafe { core::slice::from_raw_parts_mut(packs.as_mut_ptr().cast(), packs.len() * LANES) }
}

/// One vector register of f32. `part` counts the registers that make up a pack.
///
/// Code generic over this trait is `#[inline(always)]` and free of closures down from
/// [`Kernel::run`]: whatever stays a function of its own is compiled without the processor's
/// features, and then each operation below becomes a call.
pub trait Lanes: Copy {
    /// A register of half as many lanes, or this one.
    type Half: Lanes;
    /// Whether half a register costs half as much.
    const HALVES: bool;
    /// Registers per pack, a power of two.
    const PARTS: usize;
    /// Whether there are 32 registers rather than 16.
    const MANY: bool;

    /// The first half of the lanes.
    fn low(self) -> Self::Half;
    /// Half a register, and zeros.
    fn widen(half: Self::Half) -> Self;
    /// All lanes `x`.
    fn splat(x: f32) -> Self;
    /// Reads one part of a pack.
    fn load(from: &Pack, part: usize) -> Self;
    /// Reads one part of neighbouring numbers, whatever their alignment.
    fn load_row(from: &[f32; LANES], part: usize) -> Self;
    /// Writes one part of a pack.
    fn store(self, to: &mut Pack, part: usize);
    /// `self + b`
    fn add(self, b: Self) -> Self;
    /// `self * b`
    fn mul(self, b: Self) -> Self;
    /// `self * b + c`, rounded once except in the portable form.
    fn fma(self, b: Self, c: Self) -> Self;
    /// The larger.
    fn max(self, b: Self) -> Self;
    /// `self` where `gate > 0`, else 0.
    fn gate(self, gate: Self) -> Self;
    /// `self`, lane by lane, to the first of three places that holds `max`: `a`, `b`, else the third.
    fn route(self, a: Self, b: Self, max: Self) -> [Self; 3];

    /// Zeros.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }
    /// `max(self, 0)`
    #[inline(always)]
    fn relu(self) -> Self {
        self.max(Self::zero())
    }
}

/// A loop over packs, ready to run: a struct of its arguments.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// The loop itself; implementations are `#[inline(always)]`.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Registers that multiply pairs of bfloat16. A pair lies where a f32 would: the first of two neighbouring channels in the low
/// bits, the second in the high ones.
pub trait PairProducts: Lanes {
    /// `c` and, lane by lane, the products of the first and of the second numbers of the pairs.
    fn pairs(self, b: Self, c: Self) -> Self;
    /// Writes its lanes, rounded to nearest, ties to even, as pairs of neighbours: from the first pair of a pack on, or from the ninth.
    fn store_pairs(self, to: &mut Pack, half: usize);
}

/// Those whose halves do so, too.
pub trait Pairs: PairProducts<Half: PairProducts> {}

impl<L: PairProducts<Half: PairProducts>> Pairs for L {}

/// A [`Kernel`] on pairs.
pub trait PairKernel {
    /// The loop itself; implementations are `#[inline(always)]`.
    fn run<L: Pairs>(self);
}

/// An instruction set that this processor has.
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
    /// Plain arrays, which every processor has.
    pub const PORTABLE: Level = Level(Set::Portable);

    /// All levels of this processor, fastest first; the last is portable.
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

    /// The fastest level of this processor.
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Level::available()[0])
    }

    /// Runs a kernel on this level's registers.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY (both): such a Level is made by `available` alone, after detecting the features.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { run_avx512(kernel) },
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { run_avx2(kernel) },
            #[cfg(target_arch = "aarch64")]
            Set::Neon => kernel.run::<neon::Neon>(),
            Set::Portable => kernel.run::<Portable>(),
        }
    }

    /// Whether this level and processor have registers of [`Pairs`].
    pub fn has_pairs(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Set::Avx512 {
            return is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw");
        }
        false
    }

    /// Runs a kernel on pairs.
    ///
    /// # Panics
    /// Where [`has_pairs`](Self::has_pairs) says no.
    #[inline]
    pub fn run_pairs<K: PairKernel>(self, kernel: K) {
        assert!(self.has_pairs(), "{self:?} multiplies no pairs of bfloat16");
        // SAFETY: such a Level is made by `available` alone, after detecting AVX-512 F and VL; BF16, and BW, which compilers
        // take it to bring, were detected just now.
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
