//! Portable registers, which every processor supports.

use super::{LANES, Lanes, Pack};

/// Eight lanes as an array, which the compiler vectorises with the target's instructions.
#[derive(Copy, Clone)]
pub(super) struct Portable([f32; 8]);

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
    type Half = Self;
    const HALVES: bool = false;
    const PARTS: usize = 2;
    const MANY: bool = false;

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
    // Not `f32::mul_add`: on targets without such an instruction it calls the C library.
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
