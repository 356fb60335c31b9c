//! Replacement for candle-onnx in a build without it.

use std::convert::Infallible;

use crate::runtime::library::{Library, RawOutput};
use crate::runtime::{Feed, Pixels, RuntimeKind};
use crate::{Error, Result};

/// Runtime that cannot be constructed.
pub struct CandleOnnx(Infallible);

impl CandleOnnx {
    /// Refuses every file.
    ///
    /// # Errors
    /// [`Error::Unavailable`], always.
    pub fn new(_: &[u8], _: &str, _: &str) -> Result<Self> {
        let problem =
            "this program was built without it. help: build it with the cargo feature `candle-onnx`";
        Err(Error::Unavailable { name: "candle-onnx", problem: problem.into() })
    }
}

impl Library for CandleOnnx {
    fn kind(&self) -> RuntimeKind {
        match self.0 {}
    }

    fn compute(&self, _: &Feed, _: Pixels, _: usize) -> Result<RawOutput> {
        match self.0 {}
    }
}
