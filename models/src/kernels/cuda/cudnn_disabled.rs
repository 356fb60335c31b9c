//! Stub of cuDNN for a build without the feature `cudnn`: this crate's kernels compute all convolutions.

use std::sync::Arc;

use cudarc::driver::CudaStream;

use super::config::Rounding;
use super::convolution::{Convolution, Convolve};
use super::device::device_error;
use crate::Result;

/// Stub of the library.
pub(super) struct Cudnn;

impl Cudnn {
    /// Suffix of the device's name: empty.
    pub(super) const NAME: &str = "";

    /// Returns the stub.
    pub(super) fn open(_: &Arc<CudaStream>, _: Rounding) -> Result<Cudnn> {
        Ok(Cudnn)
    }

    /// Returns whether the library supports the convolution: always `false`.
    pub(super) fn plan(&mut self, _: &Convolution) -> Result<bool> {
        Ok(false)
    }

    /// Returns an error, since there is no library.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device), always.
    pub(super) fn make(&self, _: &Convolve) -> Result<()> {
        Err(device_error("cudnn", "this build has none of it. help: this is a bug"))
    }
}
