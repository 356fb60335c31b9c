//! Where a search or a training computes: what `--device` may say.

use std::fmt;
use std::str::FromStr;

use milenas_models::kernels::cuda::{self, Choice, Device, Rounding};
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
    /// As `--device` may say it, but for the number of the GPU: runs that began at one kind go on there.
    pub fn kind(self) -> &'static str {
        match self {
            Place::Cpu => "cpu",
            Place::Cuda(Choice { rounding: Rounding::None, .. }) => "cuda",
            Place::Cuda(Choice { rounding: Rounding::Tf32, .. }) => "cuda,tf32",
            Place::Cuda(Choice { rounding: Rounding::Bf16, .. }) => "cuda,bf16",
        }
    }

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

/// As `--device` says it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Cpu => f.write_str("cpu"),
            Place::Cuda(Choice { index, rounding }) => write!(f, "cuda:{index}{}", rounding.suffix()),
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

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn places_are_read_as_they_are_told() {
        for text in ["cpu", "cuda:0", "cuda:2,tf32", "cuda:1,bf16"] {
            let place = text.parse::<Place>().unwrap();
            assert_eq!(place.to_string(), text);
            assert_eq!(place.kind().parse::<Place>().unwrap().kind(), place.kind());
        }
        let error = "gpu".parse::<Place>().unwrap_err().to_string();
        assert!(error.contains("`gpu`") && error.contains("cpu, cuda"), "{error}");
    }
}
