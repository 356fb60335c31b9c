//! Operations that candle lacks, computes slowly or computes wrongly: convolution, pooling with padding, BatchNorm,
//! and ReLU with PyTorch's gradient at 0.
//!
//! Every kernel has two implementations, whose values and gradients the tests compare: a simple reference that serves
//! as the definition, and an optimised one. Results do not depend on the number of threads: work is split by image,
//! plane or fixed chunk, and partial sums are added in a fixed order.

pub mod cpu;
pub mod cuda;
mod host;
pub(crate) mod matmul;
mod reference;

pub use reference::{BatchMoments, batch_norm, conv2d, pool2d, relu};

/// The implementation of a kernel that an operation uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Implementation {
    /// Plain loops or composed tensor operations. Tests compare the optimised implementation with it.
    Reference,
    /// The implementation that programs run.
    #[default]
    Optimised,
}

#[cfg(test)]
pub(crate) mod testing;
