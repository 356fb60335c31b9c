//! Device of a search or a training, as chosen by the user.

use std::fmt;
use std::str::FromStr;

use milenas_models::kernels::cuda::{self, Device, GpuConfig, Rounding};
use milenas_models::{Error, Result};

/// Choice of the CPU or a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// CPU.
    #[default]
    Cpu,
    /// NVIDIA GPU with an index and a rounding of matrix products.
    Cuda(GpuConfig),
}

impl DeviceSpec {
    /// Returns the kind of device: the user's text without the index of the GPU. A run resumes on the kind it
    /// started on.
    pub fn kind(self) -> &'static str {
        match self {
            DeviceSpec::Cpu => "cpu",
            DeviceSpec::Cuda(GpuConfig { rounding: Rounding::None, .. }) => "cuda",
            DeviceSpec::Cuda(GpuConfig { rounding: Rounding::Tf32, .. }) => "cuda,tf32",
            DeviceSpec::Cuda(GpuConfig { rounding: Rounding::Bf16, .. }) => "cuda,bf16",
        }
    }

    /// Opens the device; `None` for the CPU.
    ///
    /// # Errors
    /// Fails for a build without CUDA, and on a machine without a GPU or without CUDA's libraries.
    pub fn open(self) -> Result<Option<Box<dyn Device>>> {
        match self {
            DeviceSpec::Cpu => Ok(None),
            DeviceSpec::Cuda(choice) => cuda::open(choice).map(Some),
        }
    }
}

/// Formats the device as the user's text.
impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Cpu => f.write_str("cpu"),
            DeviceSpec::Cuda(GpuConfig { index, rounding }) => write!(f, "cuda:{index}{}", rounding.suffix()),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<DeviceSpec> {
        match text {
            "cpu" => Ok(DeviceSpec::Cpu),
            other => other.parse().map(DeviceSpec::Cuda),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceSpec;

    #[test]
    fn devices_are_parsed_from_their_text() {
        for text in ["cpu", "cuda:0", "cuda:2,tf32", "cuda:1,bf16"] {
            let place = text.parse::<DeviceSpec>().unwrap();
            assert_eq!(place.to_string(), text);
            assert_eq!(place.kind().parse::<DeviceSpec>().unwrap().kind(), place.kind());
        }
        let error = "gpu".parse::<DeviceSpec>().unwrap_err().to_string();
        assert!(error.contains("`gpu`") && error.contains("cpu, cuda"), "{error}");
    }
}
