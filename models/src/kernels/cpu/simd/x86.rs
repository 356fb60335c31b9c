//! Vector registers of x86-64: AVX-512, AVX2, and pairs of bfloat16.

use core::arch::x86_64::*;
use core::mem::transmute;

use super::{LANES, Lanes, Pack, PairProducts};

#[derive(Copy, Clone)]
pub(super) struct Avx512(__m512);

// Values of this type exist only below `run_avx512` and `run_pairs`, so the processor has AVX-512 F and VL. A pack is
// sixteen f32 aligned to 64 bytes.
impl Lanes for Avx512 {
    type Half = Avx2;
    const HALVES: bool = true;
    const PARTS: usize = 1;
    const MANY: bool = true;

    #[inline(always)]
    fn low(self) -> Avx2 {
        // SAFETY: AVX-512 F and VL are present; the intrinsic accesses no memory.
        unsafe { Avx2(_mm512_castps512_ps256(self.0)) }
    }
    #[inline(always)]
    fn widen(half: Avx2) -> Self {
        // SAFETY: AVX-512 F and VL are present; the intrinsic accesses no memory.
        unsafe { Avx512(_mm512_zextps256_ps512(half.0)) }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: AVX-512 F and VL are present; the intrinsic accesses no memory.
        unsafe { Avx512(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(from: &Pack, _part: usize) -> Self {
        // SAFETY: AVX-512 F and VL are present; a pack is sixteen f32, aligned to 64 bytes.
        unsafe { Avx512(_mm512_load_ps(from.0.as_ptr())) }
    }
    #[inline(always)]
    fn load_row(from: &[f32; LANES], _part: usize) -> Self {
        // SAFETY: AVX-512 F and VL are present; the array is sixteen f32, and the load allows any alignment.
        unsafe { Avx512(_mm512_loadu_ps(from.as_ptr())) }
    }
    #[inline(always)]
    fn store(self, to: &mut Pack, _part: usize) {
        // SAFETY: AVX-512 F and VL are present; a pack is sixteen f32, aligned to 64 bytes.
        unsafe { _mm512_store_ps(to.0.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: AVX-512 F and VL are present; the intrinsic accesses no memory.
        unsafe { Avx512(_mm512_add_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: AVX-512 F and VL are present; the intrinsic accesses no memory.
        unsafe { Avx512(_mm512_mul_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: AVX-512 F and VL are present; the intrinsic accesses no memory.
        unsafe { Avx512(_mm512_fmadd_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: AVX-512 F and VL are present; the intrinsic accesses no memory.
        unsafe { Avx512(_mm512_max_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn gate(self, gate: Self) -> Self {
        // SAFETY: AVX-512 F and VL are present; the intrinsics access no memory.
        unsafe {
            let open = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate.0, _mm512_setzero_ps());
            Avx512(_mm512_maskz_mov_ps(open, self.0))
        }
    }
    #[inline(always)]
    fn route(self, a: Self, b: Self, max: Self) -> [Self; 3] {
        // SAFETY: AVX-512 F and VL are present; the intrinsics access no memory.
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

#[derive(Copy, Clone)]
pub(super) struct Avx2(__m256);

// Values of this type exist only below `run_avx2`, or as half of an `Avx512`, so the processor has AVX2 and FMA. Half
// a pack is eight f32 aligned to 32 bytes, and `part & 1` selects one.
impl Lanes for Avx2 {
    type Half = Avx2;
    const HALVES: bool = false;
    const PARTS: usize = 2;
    const MANY: bool = false;

    #[inline(always)]
    fn low(self) -> Avx2 {
        self
    }
    #[inline(always)]
    fn widen(half: Avx2) -> Self {
        half
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: AVX2 and FMA are present; the intrinsic accesses no memory.
        unsafe { Avx2(_mm256_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(from: &Pack, part: usize) -> Self {
        // SAFETY: AVX2 and FMA are present; `part & 1` keeps the eight lanes inside the pack, and they are 32-byte
        // aligned.
        unsafe { Avx2(_mm256_load_ps(from.0.as_ptr().add((part & 1) * 8))) }
    }
    #[inline(always)]
    fn load_row(from: &[f32; LANES], part: usize) -> Self {
        // SAFETY: AVX2 and FMA are present; `part & 1` keeps the eight lanes inside the array, and the load allows
        // any alignment.
        unsafe { Avx2(_mm256_loadu_ps(from.as_ptr().add((part & 1) * 8))) }
    }
    #[inline(always)]
    fn store(self, to: &mut Pack, part: usize) {
        // SAFETY: AVX2 and FMA are present; `part & 1` keeps the eight lanes inside the pack, and they are 32-byte
        // aligned.
        unsafe { _mm256_store_ps(to.0.as_mut_ptr().add((part & 1) * 8), self.0) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: AVX2 and FMA are present; the intrinsic accesses no memory.
        unsafe { Avx2(_mm256_add_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: AVX2 and FMA are present; the intrinsic accesses no memory.
        unsafe { Avx2(_mm256_mul_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: AVX2 and FMA are present; the intrinsic accesses no memory.
        unsafe { Avx2(_mm256_fmadd_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: AVX2 and FMA are present; the intrinsic accesses no memory.
        unsafe { Avx2(_mm256_max_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn gate(self, gate: Self) -> Self {
        // SAFETY: AVX2 and FMA are present; the intrinsics access no memory.
        unsafe { Avx2(_mm256_and_ps(self.0, _mm256_cmp_ps::<_CMP_GT_OQ>(gate.0, _mm256_setzero_ps()))) }
    }
    #[inline(always)]
    fn route(self, a: Self, b: Self, max: Self) -> [Self; 3] {
        // SAFETY: AVX2 and FMA are present; the intrinsics access no memory.
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

// These methods are reached only through `run_pairs`, so the processor has AVX-512 F, VL and BF16.
impl PairProducts for Avx512 {
    #[inline(always)]
    fn pairs(self, b: Self, c: Self) -> Self {
        // SAFETY: AVX-512 BF16 is present; both register types have the same size, and any bits are valid in them.
        unsafe {
            Avx512(_mm512_dpbf16_ps(
                c.0,
                transmute::<__m512, __m512bh>(self.0),
                transmute::<__m512, __m512bh>(b.0),
            ))
        }
    }
    #[inline(always)]
    fn store_pairs(self, to: &mut Pack, half: usize) {
        // SAFETY: AVX-512 BF16 is present; both register types have the same size. `half & 1` keeps the pairs inside
        // the pack, aligned to 32 bytes.
        unsafe {
            let pairs = transmute::<__m256bh, __m256>(_mm512_cvtneps_pbh(self.0));
            _mm256_store_ps(to.0.as_mut_ptr().add((half & 1) * 8), pairs);
        }
    }
}

impl PairProducts for Avx2 {
    #[inline(always)]
    fn pairs(self, b: Self, c: Self) -> Self {
        // SAFETY: AVX-512 VL and BF16 are present; both register types have the same size, and any bits are valid in
        // them.
        unsafe {
            Avx2(_mm256_dpbf16_ps(
                c.0,
                transmute::<__m256, __m256bh>(self.0),
                transmute::<__m256, __m256bh>(b.0),
            ))
        }
    }
    #[inline(always)]
    fn store_pairs(self, to: &mut Pack, half: usize) {
        // SAFETY: AVX-512 VL and BF16 are present; both register types have the same size. `half & 1` keeps the pairs
        // inside the pack, aligned to 32 bytes.
        unsafe {
            let pairs = transmute::<__m128bh, __m128>(_mm256_cvtneps_pbh(self.0));
            _mm_store_ps(to.0.as_mut_ptr().add((half & 1) * 8), pairs);
        }
    }
}
