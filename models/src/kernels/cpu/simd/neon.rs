//! Vector registers of aarch64 (NEON).

use super::{LANES, Lanes, Pack};
use core::arch::aarch64::*;

#[derive(Copy, Clone)]
pub(super) struct Neon(float32x4_t);

// Every aarch64 target of Rust's standard library has NEON. A quarter of a pack is four f32, and `part & 3` selects
// one.
impl Lanes for Neon {
    type Half = Self;
    const HALVES: bool = false;
    const PARTS: usize = 4;
    const MANY: bool = true;

    #[inline(always)]
    fn low(self) -> Self {
        self
    }
    #[inline(always)]
    fn widen(half: Self) -> Self {
        half
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: NEON is always present; the intrinsic accesses no memory.
        unsafe { Neon(vdupq_n_f32(x)) }
    }
    #[inline(always)]
    fn load(from: &Pack, part: usize) -> Self {
        // SAFETY: NEON is always present; `part & 3` keeps the four lanes inside the pack.
        unsafe { Neon(vld1q_f32(from.0.as_ptr().add((part & 3) * 4))) }
    }
    #[inline(always)]
    fn load_row(from: &[f32; LANES], part: usize) -> Self {
        // SAFETY: NEON is always present; `part & 3` keeps the four lanes inside the array, and the load allows any
        // alignment.
        unsafe { Neon(vld1q_f32(from.as_ptr().add((part & 3) * 4))) }
    }
    #[inline(always)]
    fn store(self, to: &mut Pack, part: usize) {
        // SAFETY: NEON is always present; `part & 3` keeps the four lanes inside the pack.
        unsafe { vst1q_f32(to.0.as_mut_ptr().add((part & 3) * 4), self.0) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: NEON is always present; the intrinsic accesses no memory.
        unsafe { Neon(vaddq_f32(self.0, b.0)) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: NEON is always present; the intrinsic accesses no memory.
        unsafe { Neon(vmulq_f32(self.0, b.0)) }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: NEON is always present; the intrinsic accesses no memory.
        unsafe { Neon(vfmaq_f32(c.0, self.0, b.0)) }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: NEON is always present; the intrinsic accesses no memory.
        unsafe { Neon(vmaxq_f32(self.0, b.0)) }
    }
    #[inline(always)]
    fn gate(self, gate: Self) -> Self {
        // SAFETY: NEON is always present; the intrinsics access no memory.
        unsafe { Neon(vbslq_f32(vcgtzq_f32(gate.0), self.0, vdupq_n_f32(0.0))) }
    }
    #[inline(always)]
    fn route(self, a: Self, b: Self, max: Self) -> [Self; 3] {
        // SAFETY: NEON is always present; the intrinsics access no memory.
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
