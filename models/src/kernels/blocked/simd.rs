//! Sixteen channels at one pixel, and the vector registers that work on them.
//!
//! [`Pack`] is how they lie in memory, whatever the processor. [`Lanes`] is one register: all of a
//! pack (AVX-512), a half (AVX2, portable) or a quarter (NEON). A kernel is a struct of its
//! arguments with a generic [`Kernel::run`]; [`Level::run`] picks the registers at run time, so that a
//! plain build is as fast as one for the machine at hand. Every unsafe line of the blocked
//! kernels is here.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;
use std::sync::OnceLock;

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
    /// Registers per pack, a power of two.
    const PARTS: usize;
    /// Whether there are 32 registers rather than 16.
    const MANY: bool;

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
            if is_x86_feature_detected!("avx512f") {
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
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[derive(Copy, Clone)]
struct Avx512(__m512);

// SAFETY (all of the methods): reached through `run_avx512` alone, so AVX-512F is there; a pack is
// sixteen f32 aligned to 64 bytes.
#[cfg(target_arch = "x86_64")]
impl Lanes for Avx512 {
    const PARTS: usize = 1;
    const MANY: bool = true;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Avx512(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(from: &Pack, _part: usize) -> Self {
        unsafe { Avx512(_mm512_load_ps(from.0.as_ptr())) }
    }
    #[inline(always)]
    fn load_row(from: &[f32; LANES], _part: usize) -> Self {
        unsafe { Avx512(_mm512_loadu_ps(from.as_ptr())) }
    }
    #[inline(always)]
    fn store(self, to: &mut Pack, _part: usize) {
        unsafe { _mm512_store_ps(to.0.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_add_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_mul_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        unsafe { Avx512(_mm512_fmadd_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        unsafe { Avx512(_mm512_max_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn gate(self, gate: Self) -> Self {
        unsafe {
            let open = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate.0, _mm512_setzero_ps());
            Avx512(_mm512_maskz_mov_ps(open, self.0))
        }
    }
    #[inline(always)]
    fn route(self, a: Self, b: Self, max: Self) -> [Self; 3] {
        unsafe {
            let first = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a.0, max.0);
            let second = _mm512_mask_cmp_ps_mask::<_CMP_EQ_OQ>(!first, b.0, max.0);
            [
                Avx512(_mm512_maskz_mov_ps(first, self.0)),
                Avx512(_mm512_maskz_mov_ps(second, self.0)),
                Avx512(_mm512_maskz_mov_ps(!(first | second), self.0)),
            ]
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Copy, Clone)]
struct Avx2(__m256);

// SAFETY (all of the methods): reached through `run_avx2` alone, so AVX2 and FMA are there; half a pack
// is eight f32 aligned to 32 bytes.
#[cfg(target_arch = "x86_64")]
impl Lanes for Avx2 {
    const PARTS: usize = 2;
    const MANY: bool = false;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Avx2(_mm256_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(from: &Pack, part: usize) -> Self {
        unsafe { Avx2(_mm256_load_ps(from.0.as_ptr().add((part & 1) * 8))) }
    }
    #[inline(always)]
    fn load_row(from: &[f32; LANES], part: usize) -> Self {
        unsafe { Avx2(_mm256_loadu_ps(from.as_ptr().add((part & 1) * 8))) }
    }
    #[inline(always)]
    fn store(self, to: &mut Pack, part: usize) {
        unsafe { _mm256_store_ps(to.0.as_mut_ptr().add((part & 1) * 8), self.0) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_add_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_mul_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        unsafe { Avx2(_mm256_fmadd_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_max_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn gate(self, gate: Self) -> Self {
        unsafe { Avx2(_mm256_and_ps(self.0, _mm256_cmp_ps::<_CMP_GT_OQ>(gate.0, _mm256_setzero_ps()))) }
    }
    #[inline(always)]
    fn route(self, a: Self, b: Self, max: Self) -> [Self; 3] {
        unsafe {
            let first = _mm256_cmp_ps::<_CMP_EQ_OQ>(a.0, max.0);
            let either = _mm256_or_ps(first, _mm256_cmp_ps::<_CMP_EQ_OQ>(b.0, max.0));
            let second = _mm256_andnot_ps(first, either);
            [
                Avx2(_mm256_and_ps(first, self.0)),
                Avx2(_mm256_and_ps(second, self.0)),
                Avx2(_mm256_andnot_ps(either, self.0)),
            ]
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::{Lanes, Pack};
    use core::arch::aarch64::*;

    #[derive(Copy, Clone)]
    pub(super) struct Neon(float32x4_t);

    // SAFETY (all of the methods): every aarch64 target of Rust's standard library has NEON; a quarter
    // of a pack is four f32.
    impl Lanes for Neon {
        const PARTS: usize = 4;
        const MANY: bool = true;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            unsafe { Neon(vdupq_n_f32(x)) }
        }
        #[inline(always)]
        fn load(from: &Pack, part: usize) -> Self {
            unsafe { Neon(vld1q_f32(from.0.as_ptr().add((part & 3) * 4))) }
        }
        #[inline(always)]
        fn load_row(from: &[f32; LANES], part: usize) -> Self {
            unsafe { Neon(vld1q_f32(from.as_ptr().add((part & 3) * 4))) }
        }
        #[inline(always)]
        fn store(self, to: &mut Pack, part: usize) {
            unsafe { vst1q_f32(to.0.as_mut_ptr().add((part & 3) * 4), self.0) }
        }
        #[inline(always)]
        fn add(self, b: Self) -> Self {
            unsafe { Neon(vaddq_f32(self.0, b.0)) }
        }
        #[inline(always)]
        fn mul(self, b: Self) -> Self {
            unsafe { Neon(vmulq_f32(self.0, b.0)) }
        }
        #[inline(always)]
        fn fma(self, b: Self, c: Self) -> Self {
            unsafe { Neon(vfmaq_f32(c.0, self.0, b.0)) }
        }
        #[inline(always)]
        fn max(self, b: Self) -> Self {
            unsafe { Neon(vmaxq_f32(self.0, b.0)) }
        }
        #[inline(always)]
        fn gate(self, gate: Self) -> Self {
            unsafe { Neon(vbslq_f32(vcgtzq_f32(gate.0), self.0, vdupq_n_f32(0.0))) }
        }
        #[inline(always)]
        fn route(self, a: Self, b: Self, max: Self) -> [Self; 3] {
            unsafe {
                let zero = vdupq_n_f32(0.0);
                let (first, second) = (vceqq_f32(a.0, max.0), vceqq_f32(b.0, max.0));
                [
                    Neon(vbslq_f32(first, self.0, zero)),
                    Neon(vbslq_f32(vbicq_u32(second, first), self.0, zero)),
                    Neon(vbslq_f32(vorrq_u32(first, second), zero, self.0)),
                ]
            }
        }
    }
}

/// Eight lanes as an array, for the compiler to vectorise with what the target offers.
#[derive(Copy, Clone)]
struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(mut self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        for (x, y) in self.0.iter_mut().zip(b.0) {
            *x = f(*x, y);
        }
        self
    }
}

impl Lanes for Portable {
    const PARTS: usize = 2;
    const MANY: bool = false;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Portable([x; 8])
    }
    #[inline(always)]
    fn load(from: &Pack, part: usize) -> Self {
        let mut out = Portable([0.0; 8]);
        out.0.copy_from_slice(&from.0[(part & 1) * 8..][..8]);
        out
    }
    #[inline(always)]
    fn load_row(from: &[f32; LANES], part: usize) -> Self {
        let mut out = Portable([0.0; 8]);
        out.0.copy_from_slice(&from[(part & 1) * 8..][..8]);
        out
    }
    #[inline(always)]
    fn store(self, to: &mut Pack, part: usize) {
        to.0[(part & 1) * 8..][..8].copy_from_slice(&self.0);
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |x, y| x + y)
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |x, y| x * y)
    }
    // Not `f32::mul_add`: where the target has no such instruction that is a call into the C library.
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        self.mul(b).add(c)
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    fn gate(self, gate: Self) -> Self {
        self.zip(gate, |x, g| if g > 0.0 { x } else { 0.0 })
    }
    #[inline(always)]
    fn route(self, a: Self, b: Self, max: Self) -> [Self; 3] {
        let mut out = [Portable([0.0; 8]); 3];
        for i in 0..8 {
            let place = if a.0[i] == max.0[i] { 0 } else { 2 - (b.0[i] == max.0[i]) as usize };
            out[place].0[i] = self.0[i];
        }
        out
    }
}
