//! The kernels of supernets and networks in CUDA C, and what runs them: a [`Device`].
//!
//! Each `.cu` file has beside it the functions that check sizes and launch its kernels. The kernels are plain enough that a C++ compiler
//! takes them too: `tests/cuda` runs them so on the host, against their slow twins. On a GPU, NVRTC compiles them when the device
//! is opened, for its architecture. Other products of matrices are cuBLAS's, and with the feature `cudnn` other convolutions cuDNN's.
//!
//! Maps are `[channel][image][row][column]`, all numbers are `f32`.

pub mod alphas;
mod calls;
mod choice;
pub mod convolution;
pub mod depthwise;
pub mod descent;
mod device;
pub mod ends;
pub mod mixture;
pub mod norm;
mod order;
mod parts;
pub mod pointwise;
pub mod pool;
pub mod product;
pub mod rectify;
pub mod sums;
pub mod windows;

#[cfg(feature = "cuda")]
mod blas;
#[cfg(feature = "cudnn")]
#[path = "cudnn_enabled.rs"]
mod cudnn;
#[cfg(all(feature = "cuda", not(feature = "cudnn")))]
#[path = "cudnn_disabled.rs"]
mod cudnn;
#[cfg(feature = "cuda")]
#[path = "enabled.rs"]
mod open;
#[cfg(not(feature = "cuda"))]
#[path = "disabled.rs"]
mod open;

pub use calls::Call;
pub use choice::{GpuConfig, Rounding};
pub use device::{Arg, ByColumns, Device, Gemm, LaunchGrid, Words};
pub use open::{compile, open};
pub use order::{CallOrder, LANES, places};
pub use parts::Kept;

/// The kernels' files, name and text, in the order in which they make one source.
pub const SOURCES: [(&str, &str); 14] = [
    ("common.cu", include_str!("common.cu")),
    ("depthwise.cu", include_str!("depthwise.cu")),
    ("tiles.cu", include_str!("tiles.cu")),
    ("pool.cu", include_str!("pool.cu")),
    ("norm.cu", include_str!("norm.cu")),
    ("mixture.cu", include_str!("mixture.cu")),
    ("alphas.cu", include_str!("alphas.cu")),
    ("pointwise.cu", include_str!("pointwise.cu")),
    ("product.cu", include_str!("product.cu")),
    ("rectify.cu", include_str!("rectify.cu")),
    ("windows.cu", include_str!("windows.cu")),
    ("sums.cu", include_str!("sums.cu")),
    ("ends.cu", include_str!("ends.cu")),
    ("descent.cu", include_str!("descent.cu")),
];

/// All kernels as one source; errors of a compiler name file and line.
pub fn source() -> String {
    SOURCES.iter().map(|(name, text)| format!("#line 1 \"{name}\"\n{text}")).collect()
}

/// The kernels of a source by name: what it declares as `__global__ void`.
pub fn kernels(source: &str) -> impl Iterator<Item = &str> {
    let declared = source.split("__global__ void ").skip(1);
    declared.filter_map(|rest| rest.split_once('(').map(|(name, _)| name))
}
