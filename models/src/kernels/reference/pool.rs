//! Max and average pooling with padding: the reference goes window by window, the optimised implementation row by row
//! over padded planes.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernels::Implementation;
use crate::kernels::host::{slice, with_slice};
use crate::op::{Pool2d, PoolKind};

/// Sizes of one plane: rows and columns.
struct PoolGeometry {
    input: [usize; 2],
    output: [usize; 2],
    pool: Pool2d,
}

impl PoolGeometry {
    fn new(pool: &Pool2d, dims: &[usize]) -> Result<Self> {
        let &[_, _, height, width] = dims else {
            return Err(candle_core::Error::Msg(format!("pooling reads [N, C, H, W], found {dims:?}")));
        };
        let pads = [pool.padding.rows(), pool.padding.columns()];
        let size = |axis: usize, size: usize| {
            (size + pads[axis])
                .checked_sub(pool.dilation[axis] * (pool.kernel[axis] - 1) + 1)
                .map(|n| n / pool.stride[axis] + 1)
        };
        match (size(0, height), size(1, width)) {
            (Some(rows), Some(columns)) => {
                Ok(PoolGeometry { input: [height, width], output: [rows, columns], pool: pool.clone() })
            }
            _ => Err(candle_core::Error::Msg(format!("{pool:?} does not fit {dims:?}"))),
        }
    }

    fn planes(&self) -> (usize, usize) {
        (self.input[0] * self.input[1], self.output[0] * self.output[1])
    }

    /// Number of the window's rows (axis 0) or columns (axis 1) that count in a mean, for output index `at`.
    fn count(&self, axis: usize, at: usize) -> usize {
        let pool = &self.pool;
        let before = if axis == 0 { pool.padding.top } else { pool.padding.left };
        match pool.kind {
            PoolKind::Average { count_padding: true } => pool.kernel[axis],
            PoolKind::Average { count_padding: false } | PoolKind::Max => (0..pool.kernel[axis])
                .filter_map(|k| (at * pool.stride[axis] + k * pool.dilation[axis]).checked_sub(before))
                .filter(|&i| i < self.input[axis])
                .count(),
        }
    }

    /// Iterates over the indices into the plane of the window at output `(row, column)`, row-major, without padding.
    fn window(&self, row: usize, column: usize) -> impl Iterator<Item = usize> + '_ {
        let Pool2d { kernel, stride, dilation, padding, .. } = &self.pool;
        (0..kernel[0] * kernel[1]).filter_map(move |tap| {
            let r = (row * stride[0] + tap / kernel[1] * dilation[0]).checked_sub(padding.top)?;
            let c = (column * stride[1] + tap % kernel[1] * dilation[1]).checked_sub(padding.left)?;
            (r < self.input[0] && c < self.input[1]).then_some(r * self.input[1] + c)
        })
    }

    fn mean_factor(&self, row: usize, column: usize) -> f32 {
        1.0 / (self.count(0, row) * self.count(1, column)) as f32
    }
}

struct Slow;

impl Slow {
    fn forward(g: &PoolGeometry, x: &[f32], y: &mut [f32]) {
        for (at, y) in y.iter_mut().enumerate() {
            let (row, column) = (at / g.output[1], at % g.output[1]);
            let values = g.window(row, column).map(|i| x[i]);
            *y = match g.pool.kind {
                PoolKind::Max => values.fold(f32::NEG_INFINITY, f32::max),
                PoolKind::Average { .. } => values.sum::<f32>() * g.mean_factor(row, column),
            };
        }
    }

    fn gradient(g: &PoolGeometry, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for (at, dy) in dy.iter().enumerate() {
            let (row, column) = (at / g.output[1], at % g.output[1]);
            match g.pool.kind {
                PoolKind::Max => {
                    let first = g.window(row, column).reduce(|best, i| if x[i] > x[best] { i } else { best });
                    first.into_iter().for_each(|i| dx[i] += dy);
                }
                PoolKind::Average { .. } => {
                    g.window(row, column).for_each(|i| dx[i] += dy * g.mean_factor(row, column));
                }
            }
        }
    }
}

/// A padded plane, and one row of the output.
struct PoolScratch {
    width: usize,
    padded: Vec<f32>,
    row: Vec<f32>,
    /// Number of window columns that count in the mean of each output column.
    columns: Vec<f32>,
}

impl PoolScratch {
    fn new(g: &PoolGeometry) -> Self {
        let width = g.input[1] + g.pool.padding.columns();
        let columns = (0..g.output[1]).map(|c| g.count(1, c) as f32).collect();
        let padded = vec![0.0; width * (g.input[0] + g.pool.padding.rows())];
        PoolScratch { width, padded, row: vec![0.0; g.output[1]], columns }
    }

    fn inner_rows<'a>(&'a mut self, g: &PoolGeometry) -> impl Iterator<Item = &'a mut [f32]> {
        let (top, left, columns) = (g.pool.padding.top, g.pool.padding.left, g.input[1]);
        let rows = self.padded.chunks_exact_mut(self.width).skip(top).take(g.input[0]);
        rows.map(move |row| &mut row[left..left + columns])
    }

    fn fill(&mut self, g: &PoolGeometry, x: &[f32], outside: f32) {
        self.padded.fill(outside);
        self.inner_rows(g).zip(x.chunks_exact(g.input[1])).for_each(|(to, x)| to.copy_from_slice(x));
    }

    fn start(&self, g: &PoolGeometry, row: usize, tap: usize) -> usize {
        let Pool2d { kernel, stride, dilation, .. } = &g.pool;
        (row * stride[0] + tap / kernel[1] * dilation[0]) * self.width + tap % kernel[1] * dilation[1]
    }

    fn forward(&mut self, g: &PoolGeometry, x: &[f32], y: &mut [f32]) {
        let outside = if g.pool.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 };
        self.fill(g, x, outside);
        for (row, y) in y.chunks_exact_mut(g.output[1]).enumerate() {
            y.fill(outside);
            for tap in 0..g.pool.kernel[0] * g.pool.kernel[1] {
                let from = self.padded[self.start(g, row, tap)..].iter().step_by(g.pool.stride[1]);
                match g.pool.kind {
                    PoolKind::Max => y.iter_mut().zip(from).for_each(|(y, x)| *y = y.max(*x)),
                    PoolKind::Average { .. } => y.iter_mut().zip(from).for_each(|(y, x)| *y += x),
                }
            }
            if let PoolKind::Average { .. } = g.pool.kind {
                let rows = g.count(0, row) as f32;
                y.iter_mut().zip(&self.columns).for_each(|(y, c)| *y /= rows * c);
            }
        }
    }

    fn gradient(&mut self, g: &PoolGeometry, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
        match g.pool.kind {
            PoolKind::Max => self.max_gradient(g, x, y, dy, dx),
            PoolKind::Average { .. } => {
                self.padded.fill(0.0);
                for (row, dy) in dy.chunks_exact(g.output[1]).enumerate() {
                    let rows = g.count(0, row) as f32;
                    let scaled = dy.iter().zip(&self.columns).map(|(d, c)| d / (rows * c));
                    self.row.iter_mut().zip(scaled).for_each(|(to, d)| *to = d);
                    for tap in 0..g.pool.kernel[0] * g.pool.kernel[1] {
                        let start = self.start(g, row, tap);
                        let to = self.padded[start..].iter_mut().step_by(g.pool.stride[1]);
                        to.zip(&self.row).for_each(|(to, d)| *to += d);
                    }
                }
                dx.chunks_exact_mut(g.input[1])
                    .zip(self.inner_rows(g))
                    .for_each(|(to, x)| to.copy_from_slice(x));
            }
        }
    }

    /// Adds the gradient of max pooling. The maximum is known, so a window stops at the first element that equals it.
    fn max_gradient(&mut self, g: &PoolGeometry, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
        for (at, (y, dy)) in y.iter().zip(dy).enumerate() {
            let first = g.window(at / g.output[1], at % g.output[1]).find(|&i| x[i] == *y);
            first.into_iter().for_each(|i| dx[i] += dy);
        }
    }
}

struct Pooling {
    pool: Pool2d,
    form: Implementation,
}

impl CustomOp1 for Pooling {
    fn name(&self) -> &'static str {
        "pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let g = PoolGeometry::new(&self.pool, layout.dims())?;
        let (n, c, ..) = layout.shape().dims4()?;
        let (inside, outside) = g.planes();
        let mut y = vec![0.0; n * c * outside];
        let planes = y.par_chunks_exact_mut(outside).zip(slice(x, layout)?.par_chunks_exact(inside));
        match self.form {
            Implementation::Reference => planes.for_each(|(y, x)| Slow::forward(&g, x, y)),
            Implementation::Optimised => {
                planes.for_each_init(|| PoolScratch::new(&g), |scratch, (y, x)| scratch.forward(&g, x, y))
            }
        }
        Ok((CpuStorage::F32(y), (n, c, g.output[0], g.output[1]).into()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let g = PoolGeometry::new(&self.pool, x.dims())?;
        let (inside, outside) = g.planes();
        let mut dx = vec![0.0; x.elem_count()];
        let mut run = |x: &[f32], y: &[f32], dy: &[f32]| {
            let planes = (
                dx.par_chunks_exact_mut(inside),
                x.par_chunks_exact(inside),
                y.par_chunks_exact(outside),
                dy.par_chunks_exact(outside),
            )
                .into_par_iter();
            match self.form {
                Implementation::Reference => planes.for_each(|(dx, x, _, dy)| Slow::gradient(&g, x, dy, dx)),
                Implementation::Optimised => planes.for_each_init(
                    || PoolScratch::new(&g),
                    |scratch, (dx, x, y, dy)| scratch.gradient(&g, x, y, dy, dx),
                ),
            }
        };
        with_slice(x, |x| with_slice(y, |y| with_slice(dy, |dy| run(x, y, dy))))???;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// Pools `[N, C, H, W]` to `[N, C, H', W']`; see [`Pool2d`].
pub fn pool2d(x: &Tensor, pool: &Pool2d, form: Implementation) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Pooling { pool: pool.clone(), form })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{assert_same, finite_differences, tensor, value_and_gradients};
    use crate::op::Padding;

    fn pools() -> impl Strategy<Value = Pool2d> {
        let kind = prop_oneof![
            Just(PoolKind::Max),
            any::<bool>().prop_map(|count_padding| PoolKind::Average { count_padding })
        ];
        (kind, 1..4usize, 1..4usize, 1..3usize, 0..2usize).prop_map(|(kind, rows, columns, stride, pad)| {
            Pool2d {
                kind,
                kernel: [rows, columns],
                stride: [stride; 2],
                padding: Padding {
                    top: pad.min(rows - 1),
                    left: pad.min(columns - 1),
                    bottom: 0,
                    right: pad.min(columns - 1),
                },
                dilation: [1; 2],
            }
        })
    }

    proptest! {
        #[test]
        fn forms_agree(pool in pools(), h in 3..8usize, w in 3..8usize) {
            let x = (tensor(&[2, 3, h, w], 1) * 4.0).unwrap().round().unwrap(); // integers, so that maxima tie
            let y = pool2d(&x, &pool, Implementation::Reference).unwrap();
            let run = |form| value_and_gradients(std::slice::from_ref(&x), |v| pool2d(&v[0], &pool, form), &tensor(y.dims(), 2));
            assert_same(&run(Implementation::Optimised), &run(Implementation::Reference), 1e-6);
        }
    }

    #[test]
    fn padding_does_not_count() {
        let x = Tensor::ones((1, 1, 4, 4), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        for kind in [PoolKind::Max, PoolKind::Average { count_padding: false }] {
            let y = pool2d(&x, &Pool2d::new(kind, 3, 2), Implementation::Optimised).unwrap();
            assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0; 4]);
        }
    }

    #[test]
    fn gradient_is_the_slope() {
        for kind in [PoolKind::Max, PoolKind::Average { count_padding: false }] {
            let pool = Pool2d::new(kind, 3, 2);
            let call = |v: &[Tensor]| pool2d(&v[0], &pool, Implementation::Optimised);
            finite_differences(&[tensor(&[1, 2, 5, 5], 3)], call, &tensor(&[1, 2, 3, 3], 4), 2e-2);
        }
    }
}
