//! SIMD kernels over feature maps in blocks of sixteen channels, `[image][channel block][pixel][16]`.
//!
//! Channels are lanes, so every operation is vertical. A tap of a depthwise convolution is one load and one fused
//! multiply-add, a pointwise convolution broadcasts, and pooling and the sums of BatchNorm need no shuffles. Channel
//! counts are rounded up with zero channels, which stay zero. A kernel processes one image. It is a struct of its
//! arguments, run by [`Level::run`].
// A tile is walked by index through several arrays at once; iterators would hide which lanes are combined.
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
