//! Convolution as a matrix product per image and group: `1x1` directly, other sizes through im2col columns.

use rayon::prelude::*;

use super::{ConvGeometry, ReferenceKernel};
use crate::kernels::matmul::{Matrix, matmul};

pub(super) struct ProductReference;

/// Images whose weight gradients are summed together. The value is fixed, so the order of the sum is fixed too.
const CHUNK: usize = 8;

impl ConvGeometry {
    /// Rows of the im2col matrix of a group.
    fn depth(&self) -> usize {
        self.in_channels / self.groups * self.taps()
    }

    /// Whether the image equals its im2col matrix.
    fn is_plain(&self) -> bool {
        self.taps() == 1 && self.stride == [1, 1] && self.input == self.output
    }

    /// Calls `f(column offset, image offset, count)` for the part inside the image of each output row and tap of a
    /// group.
    fn each_row(&self, mut f: impl FnMut(usize, usize, usize)) {
        for row_of_matrix in 0..self.depth() {
            let (channel, tap) = (row_of_matrix / self.taps(), row_of_matrix % self.taps());
            let (kr, kc) = (tap / self.kernel[1] * self.dilation[0], tap % self.kernel[1] * self.dilation[1]);
            // Range of output columns whose input column lies inside the image.
            let first = self.padding.left.saturating_sub(kc).div_ceil(self.stride[1]);
            let end = (self.input[1] + self.padding.left).saturating_sub(kc).div_ceil(self.stride[1]);
            let end = end.min(self.output[1]);
            for row in 0..self.output[0] {
                let Some(r) = (row * self.stride[0] + kr).checked_sub(self.padding.top) else { continue };
                if r < self.input[0] && first < end {
                    let column = row_of_matrix * self.out_plane() + row * self.output[1] + first;
                    let image = channel * self.in_plane()
                        + r * self.input[1]
                        + (first * self.stride[1] + kc - self.padding.left);
                    f(column, image, end - first);
                }
            }
        }
    }

    fn gather(&self, image: &[f32], columns: &mut Vec<f32>) {
        columns.clear();
        columns.resize(self.depth() * self.out_plane(), 0.0);
        self.each_row(|column, at, count| {
            let to = &mut columns[column..][..count];
            match self.stride[1] {
                1 => to.copy_from_slice(&image[at..][..count]),
                s => to.iter_mut().zip(image[at..].iter().step_by(s)).for_each(|(to, x)| *to = *x),
            }
        });
    }

    fn scatter(&self, columns: &[f32], image: &mut [f32]) {
        self.each_row(|column, at, count| {
            let from = &columns[column..][..count];
            image[at..].iter_mut().step_by(self.stride[1]).zip(from).for_each(|(x, from)| *x += from);
        });
    }
}

impl ReferenceKernel for ProductReference {
    fn forward(&self, g: &ConvGeometry, x: &[f32], w: &[f32], y: &mut [f32]) {
        let (m, k, n) = (g.out_channels / g.groups, g.depth(), g.out_plane());
        let image = g.in_channels / g.groups * g.in_plane();
        let tasks = y.par_chunks_exact_mut(m * n).zip(x.par_chunks_exact(image)).enumerate();
        tasks.for_each_init(Vec::new, |columns, (at, (y, x))| {
            let w = Matrix::rows(&w[at % g.groups * m * k..][..m * k], k);
            if g.is_plain() {
                matmul(m, k, n, w, Matrix::rows(x, n), y, false);
            } else {
                g.gather(x, columns);
                matmul(m, k, n, w, Matrix::rows(columns, n), y, false);
            }
        });
    }

    fn input_gradient(&self, g: &ConvGeometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
        let (m, k, n) = (g.out_channels / g.groups, g.depth(), g.out_plane());
        let image = g.in_channels / g.groups * g.in_plane();
        let tasks = dx.par_chunks_exact_mut(image).zip(dy.par_chunks_exact(m * n)).enumerate();
        tasks.for_each_init(Vec::new, |columns, (at, (dx, dy))| {
            let w = Matrix::rows(&w[at % g.groups * m * k..][..m * k], k).t();
            if g.is_plain() {
                matmul(k, m, n, w, Matrix::rows(dy, n), dx, false);
            } else {
                columns.resize(k * n, 0.0);
                matmul(k, m, n, w, Matrix::rows(dy, n), columns, false);
                g.scatter(columns, dx);
            }
        });
    }

    fn weight_gradient(&self, g: &ConvGeometry, dy: &[f32], x: &[f32], dw: &mut [f32]) {
        let (m, k, n) = (g.out_channels / g.groups, g.depth(), g.out_plane());
        let image = g.in_channels / g.groups * g.in_plane();
        let chunks = (dy.par_chunks(CHUNK * g.groups * m * n), x.par_chunks(CHUNK * g.groups * image));
        let partial: Vec<Vec<f32>> = chunks
            .into_par_iter()
            .map_init(Vec::new, |columns, (dy, x)| {
                let mut dw = vec![0.0; g.w_len()];
                for (at, (dy, x)) in dy.chunks_exact(m * n).zip(x.chunks_exact(image)).enumerate() {
                    let dw = &mut dw[at % g.groups * m * k..][..m * k];
                    let dy = Matrix::rows(dy, n);
                    if g.is_plain() {
                        matmul(m, n, k, dy, Matrix::rows(x, n).t(), dw, true);
                    } else {
                        g.gather(x, columns);
                        matmul(m, n, k, dy, Matrix::rows(columns, n).t(), dw, true);
                    }
                }
                dw
            })
            .collect();
        for part in partial {
            dw.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }
}
