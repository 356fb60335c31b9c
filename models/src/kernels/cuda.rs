//! CUDA C kernels of supernets and networks, and the [`Device`] that runs them.
//!
//! Each `.cu` file has a Rust file of the same name, whose functions check sizes and launch its kernels. The kernels
//! are also valid C++: `tests/cuda` runs them on the host and compares them with reference implementations. On a GPU,
//! NVRTC compiles them for its architecture when the device is opened. Other matrix products use cuBLAS. With the
//! feature `cudnn`, other convolutions use cuDNN.
//!
//! Feature maps are `[channel][image][row][column]`, and all values are `f32`.

pub mod alphas;
mod calls;
mod config;
pub mod convolution;
pub mod depthwise;
mod device;
pub mod mixture;
pub mod norm;
mod order;
mod parts;
pub mod pointwise;
pub mod pool;
pub mod product;
pub mod relu;
pub mod sgd;
pub mod stem_head;
pub mod sums;
pub mod windows;

#[cfg(feature = "cuda")]
mod blas;
#[cfg(feature = "cudnn")]
#[path = "cuda/cudnn_enabled.rs"]
mod cudnn;
#[cfg(all(feature = "cuda", not(feature = "cudnn")))]
#[path = "cuda/cudnn_disabled.rs"]
mod cudnn;
#[cfg(feature = "cuda")]
#[path = "cuda/enabled.rs"]
mod open;
#[cfg(not(feature = "cuda"))]
#[path = "cuda/disabled.rs"]
mod open;

pub use calls::Call;
pub use config::{GpuConfig, Rounding};
pub use device::{Arg, ByColumns, Device, Gemm, LaunchGrid, Words};
pub use open::{compile, open};
pub use order::{CallOrder, LANES, places};
pub use parts::Kept;

/// Names and texts of the kernels' files, in the order in which they form one source.
pub const SOURCES: [(&str, &str); 14] = [
    ("common.cu", include_str!("cuda/common.cu")),
    ("depthwise.cu", include_str!("cuda/depthwise.cu")),
    ("tiles.cu", include_str!("cuda/tiles.cu")),
    ("pool.cu", include_str!("cuda/pool.cu")),
    ("norm.cu", include_str!("cuda/norm.cu")),
    ("mixture.cu", include_str!("cuda/mixture.cu")),
    ("alphas.cu", include_str!("cuda/alphas.cu")),
    ("pointwise.cu", include_str!("cuda/pointwise.cu")),
    ("product.cu", include_str!("cuda/product.cu")),
    ("relu.cu", include_str!("cuda/relu.cu")),
    ("windows.cu", include_str!("cuda/windows.cu")),
    ("sums.cu", include_str!("cuda/sums.cu")),
    ("stem_head.cu", include_str!("cuda/stem_head.cu")),
    ("sgd.cu", include_str!("cuda/sgd.cu")),
];

/// Returns all kernels as one source, with `#line` directives so that compiler errors name file and line.
pub fn source() -> String {
    SOURCES.iter().map(|(name, text)| format!("#line 1 \"{name}\"\n{text}")).collect()
}

/// Iterates over the names of the kernels of a source: the functions that it declares as `__global__ void`.
pub fn kernels(source: &str) -> impl Iterator<Item = &str> {
    let declared = source.split("__global__ void ").skip(1);
    declared.filter_map(|rest| rest.split_once('(').map(|(name, _)| name))
}
