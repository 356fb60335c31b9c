//! Matrix products of slices with the `gemm` crate. All unsafe code of the NCHW kernels is in this module.
#![allow(unsafe_code)]

/// A matrix in a slice, with element `(i, j)` at index `i * row + j * column`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a> Matrix<'a> {
    /// Returns a row-major matrix with `columns` columns.
    pub(crate) fn rows(data: &'a [f32], columns: usize) -> Self {
        Matrix { data, row: columns, column: 1 }
    }

    /// Returns the transpose, without moving elements.
    pub(crate) fn t(self) -> Self {
        Matrix { row: self.column, column: self.row, ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows > 0 && columns > 0 && (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// Computes `c = a b`, or `c += a b` if `add`, on this thread. `a` is `[m, k]`, `b` is `[k, n]` and `c` is row-major
/// `[m, n]`.
pub(crate) fn matmul(m: usize, k: usize, n: usize, a: Matrix, b: Matrix, c: &mut [f32], add: bool) {
    assert!(a.holds(m, k) && b.holds(k, n) && c.len() >= m * n, "matmul {m}x{k}x{n}");
    // SAFETY: the assertion above bounds every element that the strides reach.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
