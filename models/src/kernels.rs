//! The operations candle lacks or computes slowly or wrongly: convolution, pooling with padding,
//! BatchNorm, and ReLU with PyTorch's gradient at 0.
//!
//! Every kernel has two forms, equal in value and gradient by test: the slow obvious one, which is the
//! definition, and the fast one. Results do not depend on the number of threads: work is split by
//! image, plane or fixed chunk, and partial sums are added in order.

pub mod cpu;
pub mod cuda;
mod host;
pub(crate) mod matmul;
mod reference;

pub use reference::{BatchMoments, batch_norm, conv2d, pool2d, relu};

/// Which of its two forms a kernel takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Implementation {
    /// Plain loops or composed tensor operations: the oracle.
    Reference,
    /// What programs run.
    #[default]
    Optimised,
}

#[cfg(test)]
pub(crate) mod testing;
