//! Kernels over maps in blocks of sixteen channels, `[image][channel block][pixel][16]`.
//!
//! Channels are lanes, so every operation is vertical: a tap of a depthwise convolution is one load and
//! one fused multiply-add, a pointwise convolution broadcasts, pooling and the sums of BatchNorm need
//! no shuffles. Channel counts are filled up with zero channels, which stay zero. A kernel works on
//! one image; it is a struct of its arguments, run by [`Level::run`].
// A tile is walked by index through several arrays at once; zips would hide which lane meets which.
#![allow(clippy::needless_range_loop)]

pub mod bf16;
pub mod codes;
pub mod depthwise;
pub mod elementwise;
pub mod layer;
pub mod layout;
pub mod norm;
pub mod parity;
pub mod pointwise;
pub mod pool;
pub mod simd;
pub mod strip;
pub mod taps;
pub mod tile;

pub use layout::{Channels, HALO, MapSize};
pub use simd::{Kernel, LANES, Level, Pack};
