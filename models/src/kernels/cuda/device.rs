//! What a network asks of a device: memory, launches, products.

use super::convolution::{Convolution, Convolve};
use super::parts::{Kept, Turns};
use crate::{Error, Result};

/// A stretch of a device's memory, in words of four bytes: `f32` or `i32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words {
    address: u64,
    len: usize,
}

impl Words {
    /// None at all: the table or factor that a kernel may do without.
    pub const NONE: Words = Words { address: 0, len: 0 };

    /// For devices: so many words at an address.
    pub fn new(address: u64, len: usize) -> Words {
        Words { address, len }
    }

    /// Where it begins, in bytes.
    pub fn address(self) -> u64 {
        self.address
    }

    /// How many words.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// `len` of the words from `offset` on.
    ///
    /// # Errors
    /// More than there are.
    pub fn part(self, offset: usize, len: usize) -> Result<Words> {
        match offset.checked_add(len).is_some_and(|end| end <= self.len) {
            true => Ok(Words { address: self.address + 4 * offset as u64, len }),
            false => Err(device_error(
                "memory",
                format!(
                    "words {offset} to {} of {}. Help: this is a bug",
                    offset.saturating_add(len),
                    self.len
                ),
            )),
        }
    }

    /// The words from `offset` on.
    ///
    /// # Errors
    /// An offset past the end.
    pub fn from(self, offset: usize) -> Result<Words> {
        self.part(offset, self.len.saturating_sub(offset))
    }

    /// Whether some of the words are among others.
    pub(super) fn overlaps(self, other: Words) -> bool {
        let end = |words: Words| words.address + 4 * words.len as u64;
        !self.is_empty() && !other.is_empty() && self.address < end(other) && other.address < end(self)
    }

    /// As an argument that a kernel reads `len` words of.
    pub(super) fn holds(self, len: usize) -> Result<Arg> {
        self.part(0, len).map(Arg::Read)
    }

    /// The same, or none at all.
    pub(super) fn may_hold(self, len: usize) -> Result<Arg> {
        if self.is_empty() { Ok(Arg::Read(self)) } else { self.holds(len) }
    }

    /// As an argument that a kernel writes `len` words of, or some of them.
    pub(super) fn written(self, len: usize) -> Result<Arg> {
        self.part(0, len).map(Arg::Write)
    }

    /// The same, or none at all.
    pub(super) fn may_be_written(self, len: usize) -> Result<Arg> {
        if self.is_empty() { Ok(Arg::Write(self)) } else { self.written(len) }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// A pointer to what is only read.
    Read(Words),
    /// A pointer to what is written, and may be read too.
    Write(Words),
    /// An `int`.
    Int(i32),
    /// A `float`.
    Float(f32),
}

impl Arg {
    /// What a pointer points to, and whether that is written.
    pub fn words(&self) -> Option<(Words, bool)> {
        match self {
            Arg::Read(words) => Some((*words, false)),
            Arg::Write(words) => Some((*words, true)),
            Arg::Int(_) | Arg::Float(_) => None,
        }
    }
}

/// How many threads a kernel wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchGrid {
    /// One for each element.
    Each(usize),
    /// A block for each row.
    Rows(usize),
}

/// Matrix products, row-major: `c = a b`, or `c += a b`, for each of a batch, whose matrices lie the given steps apart; a step
/// of 0 is one matrix for all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Rows of `a` and `c`, columns of `b` and `c`, columns of `a` and rows of `b`.
    pub sizes: [usize; 3],
    /// `[m][k]`, or `[k][m]` where it is `transposed`.
    pub a: Words,
    /// Whether `a` is stored the other way round.
    pub transposed: bool,
    /// `[k][n]`
    pub b: Words,
    /// `[m][n]`
    pub c: Words,
    /// Words from one matrix to the next of `a`, `b` and `c`.
    pub steps: [usize; 3],
    /// How many products.
    pub batch: usize,
    /// Whether they are added to `c`.
    pub add: bool,
}

impl Gemm {
    /// The words of `a`, `b` and `c` that there are products of.
    fn reach(&self) -> [(Words, usize); 3] {
        let [m, n, k] = self.sizes;
        let last = self.batch.saturating_sub(1);
        let reach = |words: Words, size: usize, i: usize| (words, last * self.steps[i] + size);
        [reach(self.a, m * k, 0), reach(self.b, k * n, 1), reach(self.c, m * n, 2)]
    }

    /// Whether all matrices are within their words.
    ///
    /// # Errors
    /// One that is not.
    pub fn check(&self) -> Result<()> {
        self.reach().into_iter().try_for_each(|(words, len)| words.part(0, len).map(drop))
    }

    /// The words of all matrices, and whether they are written.
    pub(super) fn touches(&self) -> Vec<(Words, bool)> {
        let [a, b, c] = self.reach().map(|(words, len)| words.part(0, len).unwrap_or(words));
        vec![(a, false), (b, false), (c, true)]
    }
}

/// The same product as BLAS writes it, where matrices lie by columns: every matrix is the transposed one, so `c' = b' a'`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByColumns {
    /// Rows of the result, its columns, and what is summed over.
    pub sizes: [usize; 3],
    /// The left factor, never transposed.
    pub left: Words,
    /// The right factor.
    pub right: Words,
    /// Whether it is transposed.
    pub right_transposed: bool,
    /// Words from column to column of left, right and result.
    pub leading: [usize; 3],
    /// Words from one matrix to the next of left, right and result.
    pub steps: [usize; 3],
}

impl Gemm {
    /// As BLAS takes it.
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

/// Something that runs the kernels as if in the order of the calls: [`places`](super::places) says which may run at once. Only
/// [`read`](Self::read) waits for results, and what goes wrong may be told by a later call.
pub trait Device {
    /// What it is, for people.
    fn name(&self) -> &str;

    /// Memory for so many words, of any content, until [`release`](Self::release).
    ///
    /// # Errors
    /// Too little memory.
    fn alloc(&mut self, words: usize) -> Result<Words>;

    /// What kernels keep, in memory of [`alloc`](Self::alloc). It begins anew with each sequence of calls, and is none after
    /// [`release`](Self::release).
    fn kept(&mut self) -> &mut Kept;

    /// Memory for what one kernel keeps, of any content. Later ones may have the same.
    ///
    /// # Errors
    /// Too little memory.
    fn scratch(&mut self, words: usize) -> Result<Words> {
        if let Some(more) = self.kept().scratch.wants_gradient(words) {
            let more = self.alloc(more)?;
            self.kept().scratch = Turns::of(more);
        }
        self.kept().scratch.take(words)
    }

    /// So many integers that are zero, and that each kernel leaves so. Later ones may have the same.
    ///
    /// # Errors
    /// Too little memory.
    fn tickets(&mut self, count: usize) -> Result<Words> {
        if let Some(more) = self.kept().tickets.wants_gradient(count) {
            let more = self.alloc(more)?;
            self.clear(more)?;
            self.kept().tickets = Turns::of(more);
        }
        self.kept().tickets.take(count)
    }

    /// Gives all memory back.
    fn release(&mut self) -> Result<()>;

    /// Copies floats to the device.
    fn write(&mut self, to: Words, values: &[f32]) -> Result<()>;

    /// Copies integers to the device.
    fn write_ints(&mut self, to: Words, values: &[i32]) -> Result<()>;

    /// Makes all words zero.
    fn clear(&mut self, at: Words) -> Result<()>;

    /// Waits for all that was asked for, and copies floats from the device.
    fn read(&mut self, from: Words, out: &mut [f32]) -> Result<()>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// The arguments are those that the kernel declares, their words reach as far as it goes, and what integers in
    /// memory point at is there.
    ///
    /// # Errors
    /// A kernel that is not there; what the device says of this or an earlier launch.
    #[allow(unsafe_code)]
    unsafe fn launch(&mut self, kernel: &'static str, grid: LaunchGrid, args: &[Arg]) -> Result<()>;

    /// Multiplies matrices.
    ///
    /// # Errors
    /// Matrices outside their words.
    fn gemm(&mut self, gemm: &Gemm) -> Result<()>;

    /// Whether it has a library that convolves so, all three ways; else a convolution is a product of what windows see.
    ///
    /// # Errors
    /// What the library says, but that it does not.
    fn convolves(&mut self, _: &Convolution) -> Result<bool> {
        Ok(false)
    }

    /// Convolves.
    ///
    /// # Errors
    /// Maps outside their words; a device that does not [convolve](Self::convolves) so.
    fn convolve(&mut self, _: &Convolve) -> Result<()> {
        Err(device_error(self.name(), "it has no convolutions of its own. Help: this is a bug"))
    }
}

/// Most elements that a kernel counts.
const MOST: usize = 1 << 30;

/// Runs a kernel whose arguments' sizes the caller has checked by [`Words::holds`]; nothing where there is nothing to do.
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
        let problem = format!("{most} numbers at once, {MOST} is the most. Help: a smaller batch");
        return Err(device_error(kernel, problem));
    }
    if count == 0 {
        return Ok(());
    }
    // SAFETY: callers are the functions beside the kernels, which pass what these declare; words are checked there, and tables
    // hold numbers of maps within them.
    unsafe { device.launch(kernel, grid, args) }
}

/// `usize` as a kernel's `int`; [`launch`] refuses what is too large.
pub(super) fn int(n: usize) -> Arg {
    Arg::Int(i32::try_from(n).unwrap_or(i32::MAX))
}

/// An [`Error::Device`].
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
