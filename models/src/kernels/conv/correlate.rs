//! The inner loops of depthwise convolution at stride 1: sixteen neighbouring columns at a time, all taps while
//! they are in registers. The loops are plain; [`Level`] compiles them for the processor at hand.

use super::super::blocked::Level;
use super::super::blocked::simd::{Kernel, Lanes};

/// Columns at a time, and how many numbers past its end a padded plane must have.
pub(super) const WIDE: usize = 16;

/// A padded plane, and where each tap of an output's first column lies from it.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) padded: &'a [f32],
    /// Of the padded plane.
    pub(super) width: usize,
    pub(super) kernel_columns: usize,
    /// Rows, columns.
    pub(super) dilation: [usize; 2],
}

impl Window<'_> {
    #[inline(always)]
    fn offsets<const TAPS: usize>(&self) -> [usize; TAPS] {
        let mut offsets = [0; TAPS];
        for (tap, offset) in offsets.iter_mut().enumerate() {
            let (row, column) = (tap / self.kernel_columns, tap % self.kernel_columns);
            *offset = row * self.dilation[0] * self.width + column * self.dilation[1];
        }
        offsets
    }

    #[inline(always)]
    fn at(&self, start: usize) -> &[f32] {
        &self.padded[start..start + WIDE]
    }
}

struct Correlate<'a, const TAPS: usize> {
    window: Window<'a>,
    weights: &'a [f32],
    columns: usize,
    out: &'a mut [f32],
}

impl<const TAPS: usize> Kernel for Correlate<'_, TAPS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let offsets = self.window.offsets::<TAPS>();
        let weights = &self.weights[..TAPS];
        for (row, out) in self.out.chunks_exact_mut(self.columns).enumerate() {
            for (part, out) in out.chunks_mut(WIDE).enumerate() {
                let start = row * self.window.width + part * WIDE;
                let mut sums = [0.0f32; WIDE];
                for tap in 0..TAPS {
                    let x = self.window.at(start + offsets[tap]);
                    for i in 0..WIDE {
                        sums[i] += weights[tap] * x[i];
                    }
                }
                out.copy_from_slice(&sums[..out.len()]);
            }
        }
    }
}

struct Products<'a, const TAPS: usize> {
    window: Window<'a>,
    gradient: &'a [f32],
    columns: usize,
    out: &'a mut [f32],
}

impl<const TAPS: usize> Kernel for Products<'_, TAPS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let offsets = self.window.offsets::<TAPS>();
        let mut sums = [[0.0f32; WIDE]; TAPS];
        for (row, gradient) in self.gradient.chunks_exact(self.columns).enumerate() {
            for (part, gradient) in gradient.chunks(WIDE).enumerate() {
                let start = row * self.window.width + part * WIDE;
                let mut d = [0.0f32; WIDE];
                d[..gradient.len()].copy_from_slice(gradient);
                for tap in 0..TAPS {
                    let x = self.window.at(start + offsets[tap]);
                    for i in 0..WIDE {
                        sums[tap][i] += x[i] * d[i];
                    }
                }
            }
        }
        for (out, sums) in self.out.iter_mut().zip(&sums) {
            *out += sums.iter().sum::<f32>();
        }
    }
}

/// Whether there is a loop for this many taps: those of 3x3, 5x5 and 7x7 kernels.
pub(super) fn has_loop(taps: usize) -> bool {
    matches!(taps, 9 | 25 | 49)
}

/// `out[r, c] = sum over taps of weights[tap] * window[r + tap's row, c + tap's column]`, for `columns` columns a row.
pub(super) fn correlate(window: Window, weights: &[f32], columns: usize, out: &mut [f32]) {
    let level = Level::best();
    match weights.len() {
        9 => level.run(Correlate::<9> { window, weights, columns, out }),
        25 => level.run(Correlate::<25> { window, weights, columns, out }),
        _ => level.run(Correlate::<49> { window, weights, columns, out }),
    }
}

/// `out[tap] += sum over r, c of window[r + tap's row, c + tap's column] * gradient[r, c]`.
pub(super) fn products(window: Window, gradient: &[f32], columns: usize, out: &mut [f32]) {
    let level = Level::best();
    match out.len() {
        9 => level.run(Products::<9> { window, gradient, columns, out }),
        25 => level.run(Products::<25> { window, gradient, columns, out }),
        _ => level.run(Products::<49> { window, gradient, columns, out }),
    }
}
