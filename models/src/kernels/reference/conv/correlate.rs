//! Inner loops of depthwise convolution at stride 1. They process sixteen neighbouring columns at a time, and apply
//! all taps while these are in registers.

use crate::kernels::cpu::Level;
use crate::kernels::cpu::Pack;
use crate::kernels::cpu::simd::{Kernel, LANES, Lanes};

/// Columns processed at a time. A padded plane has this many extra values at its end.
pub(super) const WIDE: usize = LANES;

/// A padded plane, and the positions of the taps relative to an output.
#[derive(Clone, Copy)]
pub(super) struct PaddedWindow<'a> {
    pub(super) padded: &'a [f32],
    /// Columns of the padded plane.
    pub(super) width: usize,
    pub(super) kernel_columns: usize,
    /// Dilation of rows and columns.
    pub(super) dilation: [usize; 2],
}

impl PaddedWindow<'_> {
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
    fn at(&self, start: usize) -> &[f32; WIDE] {
        let whole = self.padded[start..start + WIDE].as_chunks().0;
        &whole[0]
    }
}

struct Correlate<'a, const TAPS: usize> {
    window: PaddedWindow<'a>,
    weights: &'a [f32],
    columns: usize,
    out: &'a mut [f32],
}

impl<const TAPS: usize> Kernel for Correlate<'_, TAPS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let offsets = self.window.offsets::<TAPS>();
        let mut weights = [0.0; TAPS];
        weights.copy_from_slice(self.weights);
        for (row, out) in self.out.chunks_exact_mut(self.columns).enumerate() {
            for (part, out) in out.chunks_mut(WIDE).enumerate() {
                let start = row * self.window.width + part * WIDE;
                let mut sums = Pack::ZERO;
                for part in 0..L::PARTS {
                    // Four independent chains of additions; a single chain would wait for its own results.
                    let mut chains = [L::zero(); 4];
                    for tap in 0..TAPS {
                        let x = L::load_row(self.window.at(start + offsets[tap]), part);
                        chains[tap % 4] = x.fma(L::splat(weights[tap]), chains[tap % 4]);
                    }
                    let [a, b, c, d] = chains;
                    a.add(b).add(c.add(d)).store(&mut sums, part);
                }
                out.copy_from_slice(&sums.0[..out.len()]);
            }
        }
    }
}

struct Products<'a, const TAPS: usize> {
    window: PaddedWindow<'a>,
    gradient: &'a [f32],
    columns: usize,
    out: &'a mut [f32],
}

impl<const TAPS: usize> Kernel for Products<'_, TAPS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let offsets = self.window.offsets::<TAPS>();
        for (tap, out) in self.out.iter_mut().enumerate() {
            let mut sums = Pack::ZERO;
            for part in 0..L::PARTS {
                // Two independent chains of additions, for even and odd rows.
                let mut chains = [L::zero(); 2];
                for (row, gradient) in self.gradient.chunks_exact(self.columns).enumerate() {
                    let start = row * self.window.width + offsets[tap];
                    let (whole, rest) = gradient.as_chunks::<WIDE>();
                    let mut chain = chains[row % 2];
                    for (i, d) in whole.iter().enumerate() {
                        let x = L::load_row(self.window.at(start + i * WIDE), part);
                        chain = x.fma(L::load_row(d, part), chain);
                    }
                    if !rest.is_empty() {
                        let mut d = [0.0; WIDE];
                        d[..rest.len()].copy_from_slice(rest);
                        let x = L::load_row(self.window.at(start + whole.len() * WIDE), part);
                        chain = x.fma(L::load_row(&d, part), chain);
                    }
                    chains[row % 2] = chain;
                }
                chains[0].add(chains[1]).store(&mut sums, part);
            }
            *out += sums.0.iter().sum::<f32>();
        }
    }
}

/// Whether a loop exists for this number of taps: 3x3, 5x5 and 7x7 kernels have one.
pub(super) fn has_loop(taps: usize) -> bool {
    matches!(taps, 9 | 25 | 49)
}

/// Computes `out[r, c] = sum over taps of weights[tap] * window[r + tap's row, c + tap's column]`, for `columns`
/// columns a row.
pub(super) fn correlate(window: PaddedWindow, weights: &[f32], columns: usize, out: &mut [f32]) {
    let level = Level::best();
    match weights.len() {
        9 => level.run(Correlate::<9> { window, weights, columns, out }),
        25 => level.run(Correlate::<25> { window, weights, columns, out }),
        _ => level.run(Correlate::<49> { window, weights, columns, out }),
    }
}

/// Computes `out[tap] += sum over r, c of window[r + tap's row, c + tap's column] * gradient[r, c]`.
pub(super) fn products(window: PaddedWindow, gradient: &[f32], columns: usize, out: &mut [f32]) {
    let level = Level::best();
    match out.len() {
        9 => level.run(Products::<9> { window, gradient, columns, out }),
        25 => level.run(Products::<25> { window, gradient, columns, out }),
        _ => level.run(Products::<49> { window, gradient, columns, out }),
    }
}
