//! Choice of a GPU and its precision, as `--device` gives it.

use std::str::FromStr;

use crate::{Error, Result};

/// Format to which library products may round their operands, for speed. Sums are float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// No rounding.
    #[default]
    None,
    /// TF32, with a mantissa of 10 bits.
    Tf32,
    /// bfloat16, with a mantissa of 7 bits.
    Bf16,
}

impl Rounding {
    /// Returns the suffix of the device name that selects this rounding.
    pub fn suffix(self) -> &'static str {
        match self {
            Rounding::None => "",
            Rounding::Tf32 => ",tf32",
            Rounding::Bf16 => ",bf16",
        }
    }
}

/// Index and precision of a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuConfig {
    /// Index of the GPU, from 0.
    pub index: usize,
    /// Format to which library products may round their operands.
    pub rounding: Rounding,
}

impl FromStr for GpuConfig {
    type Err = Error;

    /// Parses `cuda` or `cuda:N`, optionally followed by `,tf32` or `,bf16`.
    fn from_str(text: &str) -> Result<GpuConfig> {
        let wrong = || {
            Error::Value {
            what: "device".into(),
            found: format!("`{text}`"),
            expected: "cpu, cuda, or cuda:N with N the number of the GPU, from 0; e.g. cuda:0, or cuda:0,tf32 or cuda:0,bf16 for products in these".into(),
        }
        };
        let (name, rounding) = match text.split_once(',') {
            Some((name, "tf32")) => (name, Rounding::Tf32),
            Some((name, "bf16")) => (name, Rounding::Bf16),
            Some(_) => return Err(wrong()),
            None => (text, Rounding::None),
        };
        let index = match name.strip_prefix("cuda").ok_or_else(wrong)? {
            "" => 0,
            rest => rest.strip_prefix(':').and_then(|n| n.parse().ok()).ok_or_else(wrong)?,
        };
        Ok(GpuConfig { index, rounding })
    }
}

#[cfg(test)]
mod tests {
    use super::{GpuConfig, Rounding};

    #[test]
    fn choices_are_read() {
        let read = |text: &str| text.parse::<GpuConfig>().ok();
        assert_eq!(read("cuda"), Some(GpuConfig::default()));
        assert_eq!(read("cuda:3,tf32"), Some(GpuConfig { index: 3, rounding: Rounding::Tf32 }));
        assert_eq!(read("cuda,bf16"), Some(GpuConfig { index: 0, rounding: Rounding::Bf16 }));
        for wrong in ["gpu", "cuda:", "cuda:-1", "cuda:x", "cuda0", "cuda,fp16", "cuda:0,"] {
            let error = wrong.parse::<GpuConfig>().unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("cuda:0"), "{error}");
        }
    }
}
