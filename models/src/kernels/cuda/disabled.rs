//! Stub of CUDA for a build without the feature `cuda`.

use super::config::GpuConfig;
use super::device::{Device, device_error};
use crate::Result;

const HELP: &str = "this build has no CUDA. help: build the program with the cargo feature `cuda`, which needs no \
                    CUDA on the building machine, or set `device` to cpu";

/// Opens a GPU and compiles the kernels for it.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device), always: this build has no CUDA.
pub fn open(_: GpuConfig) -> Result<Box<dyn Device>> {
    Err(device_error("cuda", HELP))
}

/// Compiles the kernels to PTX for an architecture, e.g. `compute_90`. It needs NVRTC but no GPU.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device), always: this build has no CUDA.
pub fn compile(_: &str) -> Result<String> {
    Err(device_error("cuda", HELP))
}
