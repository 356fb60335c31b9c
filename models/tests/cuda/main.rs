//! Tests of the CUDA kernels against reference implementations, in value and gradient. They run on the host, where a
//! C++ compiler compiles the same sources, or on the GPU that `MILENAS_TEST_DEVICE` names. With NVRTC they are also
//! compiled for GPUs.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod alphas;
mod compile;
mod convolutions;
mod host;
mod mixtures;
mod norms;
#[path = "../numbers/mod.rs"]
mod numbers;
mod pools;
mod sgd;
mod stem_head;
mod sums;
mod tensors;
mod windows;

/// Numbers of threads per block: one, and two warps.
const THREADS: [usize; 2] = [1, 64];
