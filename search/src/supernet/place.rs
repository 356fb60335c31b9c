//! Where a search computes: what `--device` may say.

use std::str::FromStr;

use milenas_models::kernels::cuda::{self, Choice, Device};
use milenas_models::{Error, Result};

/// The CPU, or a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Place {
    #[default]
    Cpu,
    Cuda(Choice),
}

impl Place {
    /// The device, if it is not the CPU.
    ///
    /// # Errors
    /// A build without CUDA; a machine without a GPU, or without CUDA's libraries.
    pub fn open(self) -> Result<Option<Box<dyn Device>>> {
        match self {
            Place::Cpu => Ok(None),
            Place::Cuda(choice) => cuda::open(choice).map(Some),
        }
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Place> {
        match text {
            "cpu" => Ok(Place::Cpu),
            other => other.parse().map(Place::Cuda),
        }
    }
}
