//! Which GPU, and how exact: what `--device` says of it.

use std::str::FromStr;

use crate::{Error, Result};

/// What products of a library may round their factors to, for speed; sums are float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// Nothing.
    #[default]
    None,
    /// 10 bits behind the point.
    Tf32,
    /// 7 bits.
    Bf16,
}

impl Rounding {
    /// As a [`Choice`] says it, after the number.
    pub fn suffix(self) -> &'static str {
        match self {
            Rounding::None => "",
            Rounding::Tf32 => ",tf32",
            Rounding::Bf16 => ",bf16",
        }
    }
}

/// Which GPU, and how exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuConfig {
    /// Counted from 0.
    pub index: usize,
    /// What products may round their factors to.
    pub rounding: Rounding,
}

impl FromStr for GpuConfig {
    type Err = Error;

    /// `cuda`, `cuda:N`, and either with `,tf32` or `,bf16` after it.
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
