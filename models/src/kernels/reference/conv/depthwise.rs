//! Depthwise convolution, planes in parallel. Stride 1 uses the loops of [`correlate`](super::correlate). In other
//! cases each tap is a multiply-add over whole rows of a padded plane.

use rayon::prelude::*;

use super::correlate::{PaddedWindow, WIDE, correlate, has_loop, products};
use super::{ConvGeometry, ReferenceKernel};
use crate::op::Padding;

pub(super) struct DepthwiseReference;

/// A padded plane, and the positions of the taps in it.
struct PaddedPlane {
    width: usize,
    plane: Vec<f32>,
}

impl PaddedPlane {
    fn new(g: &ConvGeometry) -> Self {
        let width = g.input[1] + g.padding.columns();
        PaddedPlane { width, plane: vec![0.0; width * (g.input[0] + g.padding.rows()) + WIDE] }
    }

    fn inner_rows<'a>(&'a mut self, g: &ConvGeometry) -> impl Iterator<Item = &'a mut [f32]> {
        let (top, left, columns) = (g.padding.top, g.padding.left, g.input[1]);
        let rows = self.plane.chunks_exact_mut(self.width).skip(top).take(g.input[0]);
        rows.map(move |row| &mut row[left..left + columns])
    }

    fn fill(&mut self, g: &ConvGeometry, x: &[f32]) {
        for (row, from) in self.inner_rows(g).zip(x.chunks_exact(g.input[1])) {
            row.copy_from_slice(from);
        }
    }

    fn window<'a>(&'a self, g: &ConvGeometry) -> PaddedWindow<'a> {
        PaddedWindow {
            padded: &self.plane,
            width: self.width,
            kernel_columns: g.kernel[1],
            dilation: g.dilation,
        }
    }

    /// Index in the padded plane of the first value that output row `row` reads with tap `tap`.
    fn start(&self, g: &ConvGeometry, row: usize, tap: usize) -> usize {
        let (kr, kc) = (tap / g.kernel[1], tap % g.kernel[1]);
        (row * g.stride[0] + kr * g.dilation[0]) * self.width + kc * g.dilation[1]
    }
}

/// Returns the inner product, from eight running sums so that the loop is vectorised.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (ac, bc) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = ac.remainder().iter().zip(bc.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in ac.zip(bc) {
        for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
            *s += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

impl ConvGeometry {
    /// Whether the loops of `correlate` support this convolution.
    fn is_dense(&self) -> bool {
        self.stride == [1, 1] && has_loop(self.taps())
    }

    /// Returns the convolution of the output gradient that gives the input gradient at stride 1; the caller rotates
    /// the kernel by 180 degrees. Returns `None` if the loops do not support it or the padding exceeds the kernel's
    /// reach.
    fn turned(&self) -> Option<ConvGeometry> {
        let reach = |axis: usize| (self.kernel[axis] - 1) * self.dilation[axis];
        let p = self.padding;
        let padding = Padding {
            top: reach(0).checked_sub(p.top)?,
            left: reach(1).checked_sub(p.left)?,
            bottom: reach(0).checked_sub(p.bottom)?,
            right: reach(1).checked_sub(p.right)?,
        };
        self.is_dense().then_some(ConvGeometry { input: self.output, output: self.input, padding, ..*self })
    }
}

fn dense(g: &ConvGeometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    let planes = y.par_chunks_exact_mut(g.out_plane()).zip(x.par_chunks_exact(g.in_plane())).enumerate();
    planes.for_each_init(
        || PaddedPlane::new(g),
        |padded, (at, (y, x))| {
            padded.fill(g, x);
            let w = &w[at % g.in_channels * g.taps()..][..g.taps()];
            correlate(padded.window(g), w, g.output[1], y);
        },
    );
}

impl ReferenceKernel for DepthwiseReference {
    fn forward(&self, g: &ConvGeometry, x: &[f32], w: &[f32], y: &mut [f32]) {
        if g.is_dense() {
            return dense(g, x, w, y);
        }
        let planes = y.par_chunks_exact_mut(g.out_plane()).zip(x.par_chunks_exact(g.in_plane())).enumerate();
        planes.for_each_init(
            || PaddedPlane::new(g),
            |padded, (at, (y, x))| {
                padded.fill(g, x);
                let w = &w[at % g.in_channels * g.taps()..][..g.taps()];
                for (row, y) in y.chunks_exact_mut(g.output[1]).enumerate() {
                    for (tap, &w) in w.iter().enumerate() {
                        let from = &padded.plane[padded.start(g, row, tap)..];
                        match g.stride[1] {
                            1 => y.iter_mut().zip(from).for_each(|(y, x)| *y += w * x),
                            s => y.iter_mut().zip(from.iter().step_by(s)).for_each(|(y, x)| *y += w * x),
                        }
                    }
                }
            },
        );
    }

    fn input_gradient(&self, g: &ConvGeometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
        if let Some(turned) = g.turned() {
            let w: Vec<f32> = w.chunks_exact(g.taps()).flat_map(|w| w.iter().rev().copied()).collect();
            return dense(&turned, dy, &w, dx);
        }
        let planes =
            dx.par_chunks_exact_mut(g.in_plane()).zip(dy.par_chunks_exact(g.out_plane())).enumerate();
        planes.for_each_init(
            || PaddedPlane::new(g),
            |padded, (at, (dx, dy))| {
                padded.plane.fill(0.0);
                let w = &w[at % g.in_channels * g.taps()..][..g.taps()];
                for (row, dy) in dy.chunks_exact(g.output[1]).enumerate() {
                    for (tap, &w) in w.iter().enumerate() {
                        let start = padded.start(g, row, tap);
                        let to = &mut padded.plane[start..];
                        match g.stride[1] {
                            1 => to.iter_mut().zip(dy).for_each(|(x, y)| *x += w * y),
                            s => to.iter_mut().step_by(s).zip(dy).for_each(|(x, y)| *x += w * y),
                        }
                    }
                }
                for (to, row) in dx.chunks_exact_mut(g.input[1]).zip(padded.inner_rows(g)) {
                    to.copy_from_slice(row);
                }
            },
        );
    }

    fn weight_gradient(&self, g: &ConvGeometry, dy: &[f32], x: &[f32], dw: &mut [f32]) {
        dw.par_chunks_exact_mut(g.taps()).enumerate().for_each_init(
            || (PaddedPlane::new(g), Vec::new()),
            |(padded, gathered), (channel, dw)| {
                for n in 0..g.batch {
                    let plane = n * g.in_channels + channel;
                    padded.fill(g, &x[plane * g.in_plane()..][..g.in_plane()]);
                    let dy = &dy[plane * g.out_plane()..][..g.out_plane()];
                    if g.is_dense() {
                        products(padded.window(g), dy, g.output[1], dw);
                        continue;
                    }
                    for (row, dy) in dy.chunks_exact(g.output[1]).enumerate() {
                        for (tap, dw) in dw.iter_mut().enumerate() {
                            let from = &padded.plane[padded.start(g, row, tap)..];
                            *dw += match g.stride[1] {
                                1 => dot(&from[..dy.len()], dy),
                                s => {
                                    gathered.clear();
                                    gathered.extend(from.iter().step_by(s).take(dy.len()));
                                    dot(gathered, dy)
                                }
                            };
                        }
                    }
                }
            },
        );
    }
}
