//! A build without the feature `cuda`.

use super::config::GpuConfig;
use super::device::{Device, device_error};
use crate::Result;

const HELP: &str = "this build has no CUDA. Help: build it with `cargo build --release -p milenas-search --features cuda`, \
                    which needs no CUDA on the building machine, or set `device` to cpu";

/// The GPU, with the kernels compiled for it.
///
/// # Errors
/// Always: this build has no CUDA.
pub fn open(_: GpuConfig) -> Result<Box<dyn Device>> {
    Err(device_error("cuda", HELP))
}

/// The kernels as PTX for an architecture, e.g. `compute_90`; needs NVRTC and no GPU.
///
/// # Errors
/// Always: this build has no CUDA.
pub fn compile(_: &str) -> Result<String> {
    Err(device_error("cuda", HELP))
}
