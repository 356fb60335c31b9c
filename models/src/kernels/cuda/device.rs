//! Interface of a device: memory, kernel launches, matrix products, convolutions.

use super::convolution::{Convolution, Convolve};
use super::parts::{Kept, Turns};
use crate::{Error, Result};

/// A range of device memory, in elements of four bytes: `f32` or `i32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words {
    address: u64,
    len: usize,
}

impl Words {
    /// The empty range, for a table or factor that a kernel treats as absent.
    pub const NONE: Words = Words { address: 0, len: 0 };

    /// Returns a range of `len` elements at an address in bytes; only devices call it.
    pub fn new(address: u64, len: usize) -> Words {
        Words { address, len }
    }

    /// Address of the first element, in bytes.
    pub fn address(self) -> u64 {
        self.address
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether the range has no elements.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns the range of `len` elements from `offset` on.
    ///
    /// # Errors
    /// [`Error::Device`] if the range ends before that.
    pub fn part(self, offset: usize, len: usize) -> Result<Words> {
        match offset.checked_add(len).is_some_and(|end| end <= self.len) {
            true => Ok(Words { address: self.address + 4 * offset as u64, len }),
            false => Err(device_error(
                "memory",
                format!(
                    "words {offset} to {} of {}. help: this is a bug",
                    offset.saturating_add(len),
                    self.len
                ),
            )),
        }
    }

    /// Returns the range from `offset` to the end.
    ///
    /// # Errors
    /// [`Error::Device`] if the offset is past the end.
    pub fn from(self, offset: usize) -> Result<Words> {
        self.part(offset, self.len.saturating_sub(offset))
    }

    /// Whether two ranges have elements in common.
    pub(super) fn overlaps(self, other: Words) -> bool {
        let end = |words: Words| words.address + 4 * words.len as u64;
        !self.is_empty() && !other.is_empty() && self.address < end(other) && other.address < end(self)
    }

    /// Returns an argument of which a kernel reads `len` elements.
    pub(super) fn holds(self, len: usize) -> Result<Arg> {
        self.part(0, len).map(Arg::Read)
    }

    /// Returns an argument of which a kernel reads `len` elements, or which is absent.
    pub(super) fn may_hold(self, len: usize) -> Result<Arg> {
        if self.is_empty() { Ok(Arg::Read(self)) } else { self.holds(len) }
    }

    /// Returns an argument of which a kernel writes up to `len` elements.
    pub(super) fn written(self, len: usize) -> Result<Arg> {
        self.part(0, len).map(Arg::Write)
    }

    /// Returns an argument of which a kernel writes up to `len` elements, or which is absent.
    pub(super) fn may_be_written(self, len: usize) -> Result<Arg> {
        if self.is_empty() { Ok(Arg::Write(self)) } else { self.written(len) }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// A pointer to memory that the kernel only reads.
    Read(Words),
    /// A pointer to memory that the kernel writes, and may read.
    Write(Words),
    /// An `int`.
    Int(i32),
    /// A `float`.
    Float(f32),
}

impl Arg {
    /// Returns the memory of a pointer, and whether the kernel writes to it.
    pub fn words(&self) -> Option<(Words, bool)> {
        match self {
            Arg::Read(words) => Some((*words, false)),
            Arg::Write(words) => Some((*words, true)),
            Arg::Int(_) | Arg::Float(_) => None,
        }
    }
}

/// Number of threads or blocks of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchGrid {
    /// One thread per element.
    Each(usize),
    /// One block per row.
    Rows(usize),
}

/// Row-major matrix products `c = a b`, or `c += a b`, for each element of a batch. The matrices of the batch are the
/// given steps apart; a step of 0 uses one matrix for all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Sizes m, n and k: rows of `a` and `c`, columns of `b` and `c`, columns of `a` and rows of `b`.
    pub sizes: [usize; 3],
    /// Left operand, `[m][k]`, or `[k][m]` if `transposed`.
    pub a: Words,
    /// Whether `a` is stored transposed.
    pub transposed: bool,
    /// Right operand, `[k][n]`.
    pub b: Words,
    /// Result, `[m][n]`.
    pub c: Words,
    /// Elements from one matrix to the next of `a`, `b` and `c`.
    pub steps: [usize; 3],
    /// Number of products.
    pub batch: usize,
    /// Whether the products are added to `c`.
    pub add: bool,
}

impl Gemm {
    /// Returns `a`, `b` and `c` with the number of elements that each must have.
    fn reach(&self) -> [(Words, usize); 3] {
        let [m, n, k] = self.sizes;
        let last = self.batch.saturating_sub(1);
        let reach = |words: Words, size: usize, i: usize| (words, last * self.steps[i] + size);
        [reach(self.a, m * k, 0), reach(self.b, k * n, 1), reach(self.c, m * n, 2)]
    }

    /// Checks that all matrices fit their memory.
    ///
    /// # Errors
    /// [`Error::Device`] if one does not.
    pub fn check(&self) -> Result<()> {
        self.reach().into_iter().try_for_each(|(words, len)| words.part(0, len).map(drop))
    }

    /// Returns the memory of all matrices, and whether it is written.
    pub(super) fn touches(&self) -> Vec<(Words, bool)> {
        let [a, b, c] = self.reach().map(|(words, len)| words.part(0, len).unwrap_or(words));
        vec![(a, false), (b, false), (c, true)]
    }
}

/// The same product in the column-major form of BLAS. There every matrix appears transposed, so it is `c' = b' a'`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByColumns {
    /// Rows of the result, its columns, and the length of the sums.
    pub sizes: [usize; 3],
    /// Left operand, never transposed.
    pub left: Words,
    /// Right operand.
    pub right: Words,
    /// Whether the right operand is transposed.
    pub right_transposed: bool,
    /// Elements between neighbouring columns of left operand, right operand and result.
    pub leading: [usize; 3],
    /// Elements from one matrix to the next of left operand, right operand and result.
    pub steps: [usize; 3],
}

impl Gemm {
    /// Converts the product to the column-major form of BLAS.
    pub fn by_columns(&self) -> ByColumns {
        let ([m, n, k], [a, b, c]) = (self.sizes, self.steps);
        ByColumns {
            sizes: [n, m, k],
            left: self.b,
            right: self.a,
            right_transposed: self.transposed,
            leading: [n, if self.transposed { m } else { k }, n],
            steps: [b, a, c],
        }
    }
}

/// A device that runs kernels with the result of running them in the order of the calls. [`places`](super::places)
/// computes which calls may run at the same time. Only [`read`](Self::read) waits for results; an error may be
/// reported by a later call.
pub trait Device {
    /// Name of the device, for users.
    fn name(&self) -> &str;

    /// Allocates `words` elements of undefined content, until [`release`](Self::release).
    ///
    /// # Errors
    /// [`Error::Device`] if there is too little memory.
    fn alloc(&mut self, words: usize) -> Result<Words>;

    /// Scratch memory of kernels, from [`alloc`](Self::alloc). It starts again from its beginning with each sequence
    /// of calls, and is empty after [`release`](Self::release).
    fn kept(&mut self) -> &mut Kept;

    /// Returns scratch memory for one kernel, of undefined content. Later kernels may get the same memory.
    ///
    /// # Errors
    /// [`Error::Device`] if there is too little memory.
    fn scratch(&mut self, words: usize) -> Result<Words> {
        if let Some(more) = self.kept().scratch.needed_len(words) {
            let more = self.alloc(more)?;
            self.kept().scratch = Turns::of(more);
        }
        self.kept().scratch.take(words)
    }

    /// Returns `count` semaphores: integers that are zero, and that each kernel resets to zero. Later kernels may get
    /// the same memory.
    ///
    /// # Errors
    /// [`Error::Device`] if there is too little memory.
    fn tickets(&mut self, count: usize) -> Result<Words> {
        if let Some(more) = self.kept().tickets.needed_len(count) {
            let more = self.alloc(more)?;
            self.clear(more)?;
            self.kept().tickets = Turns::of(more);
        }
        self.kept().tickets.take(count)
    }

    /// Frees all memory.
    fn release(&mut self) -> Result<()>;

    /// Copies floats to the device.
    fn write(&mut self, to: Words, values: &[f32]) -> Result<()>;

    /// Copies integers to the device.
    fn write_ints(&mut self, to: Words, values: &[i32]) -> Result<()>;

    /// Sets all elements to zero.
    fn clear(&mut self, at: Words) -> Result<()>;

    /// Waits for all enqueued work, and copies floats from the device.
    fn read(&mut self, from: Words, out: &mut [f32]) -> Result<()>;

    /// Enqueues a kernel.
    ///
    /// # Safety
    /// The arguments must match the kernel's declaration, their memory must be as large as the kernel accesses, and
    /// integers in memory that serve as indices must be in range.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such kernel, or with the device's error of this or an earlier launch.
    #[allow(unsafe_code)]
    unsafe fn launch(&mut self, kernel: &'static str, grid: LaunchGrid, args: &[Arg]) -> Result<()>;

    /// Enqueues matrix products.
    ///
    /// # Errors
    /// [`Error::Device`] if matrices do not fit their memory.
    fn gemm(&mut self, gemm: &Gemm) -> Result<()>;

    /// Whether a library of the device supports the convolution in all three operations. If not, a convolution is a
    /// matrix product of the im2col columns.
    ///
    /// # Errors
    /// [`Error::Device`] with an error of the library other than an unsupported operation.
    fn convolves(&mut self, _: &Convolution) -> Result<bool> {
        Ok(false)
    }

    /// Enqueues a convolution.
    ///
    /// # Errors
    /// [`Error::Device`] if tensors do not fit their memory, or the device does not [support](Self::convolves) the
    /// convolution.
    fn convolve(&mut self, _: &Convolve) -> Result<()> {
        Err(device_error(self.name(), "it has no convolutions of its own. help: this is a bug"))
    }
}

/// Largest number of elements that a kernel can count.
const MOST: usize = 1 << 30;

/// Enqueues a kernel, unless `grid` is empty. The caller has checked the sizes of the arguments with
/// [`Words::holds`].
#[allow(unsafe_code)]
pub(super) fn launch(
    device: &mut dyn Device,
    kernel: &'static str,
    grid: LaunchGrid,
    args: &[Arg],
) -> Result<()> {
    let (LaunchGrid::Each(count) | LaunchGrid::Rows(count)) = grid;
    let words = args.iter().filter_map(|arg| arg.words().map(|(words, _)| words.len()));
    let most = words.max().unwrap_or(0).max(count);
    if most > MOST {
        let problem = format!("{most} numbers at once, {MOST} is the most. help: a smaller batch");
        return Err(device_error(kernel, problem));
    }
    if count == 0 {
        return Ok(());
    }
    // SAFETY: the callers are the functions beside the kernels. They pass the arguments that the kernels declare and
    // check their memory; tables hold indices of feature maps in range.
    unsafe { device.launch(kernel, grid, args) }
}

/// Converts `usize` to a kernel's `int`. [`launch`] rejects sizes that are too large.
pub(super) fn int(n: usize) -> Arg {
    Arg::Int(i32::try_from(n).unwrap_or(i32::MAX))
}

/// Returns an [`Error::Device`].
pub(super) fn device_error(what: &str, problem: impl Into<String>) -> Error {
    Error::Device { what: what.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn parts_stay_within() {
        let words = Words::new(64, 10);
        assert_eq!(words.part(4, 6).unwrap(), Words::new(80, 6));
        assert_eq!(words.from(10).unwrap().len(), 0);
        for (offset, len) in [(4, 7), (11, 0), (usize::MAX, 2)] {
            assert!(words.part(offset, len).is_err());
        }
        assert!(words.from(11).is_err());
    }
}
