//! The CUDA kernels against their slow twins, in value and gradient: on the host, where a C++ compiler takes the same sources, or on
//! the GPU that `MILENAS_TEST_DEVICE` names. With NVRTC they are compiled as for a GPU too.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod alphas;
mod compile;
mod convolutions;
mod descents;
mod host;
mod mixtures;
mod norms;
#[path = "../numbers/mod.rs"]
mod numbers;
mod pools;
mod stem_head;
mod sums;
mod tensors;
mod windows;

/// Threads of a block: alone, and two warps.
const THREADS: [usize; 2] = [1, 64];
