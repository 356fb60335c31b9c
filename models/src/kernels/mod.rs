//! Compute kernels: the inner loops that training and evaluation stand on.

pub mod blocked;
