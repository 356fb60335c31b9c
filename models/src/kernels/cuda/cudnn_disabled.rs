//! A build without the feature `cudnn`: all convolutions are ours.

use std::sync::Arc;

use cudarc::driver::CudaStream;

use super::config::Rounding;
use super::convolution::{Convolution, Convolve};
use super::device::device_error;
use crate::Result;

/// No library.
pub(super) struct Cudnn;

impl Cudnn {
    /// Nothing behind a device's name.
    pub(super) const NAME: &str = "";

    /// Nothing to open.
    pub(super) fn open(_: &Arc<CudaStream>, _: Rounding) -> Result<Cudnn> {
        Ok(Cudnn)
    }

    /// Whether it convolves so: never.
    pub(super) fn plan(&mut self, _: &Convolution) -> Result<bool> {
        Ok(false)
    }

    /// # Errors
    /// Always.
    pub(super) fn make(&self, _: &Convolve) -> Result<()> {
        Err(device_error("cudnn", "this build has none of it. Help: this is a bug"))
    }
}
