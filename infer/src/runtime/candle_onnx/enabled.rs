//! Runtime that uses candle-onnx's evaluator, for files of `--target candle-onnx` and others with its
//! operators.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_onnx::onnx::ModelProto;
use prost::Message;

use crate::error::brief;
use crate::runtime::library::{Library, RawOutput};
use crate::runtime::{Feed, Pixels, RuntimeKind};
use crate::{Error, Result};

/// File that candle-onnx evaluates operator by operator. It serves comparisons and is slow.
pub struct CandleOnnx {
    model: ModelProto,
    output: String,
}

impl CandleOnnx {
    /// Decodes the bytes of a file; `output` is the name of the output to compute.
    ///
    /// # Errors
    /// [`Error::Model`] for bytes that are not an ONNX model.
    pub fn new(bytes: &[u8], output: &str, place: &str) -> Result<Self> {
        let refused = |e: prost::DecodeError| Error::Model { place: place.into(), problem: e.to_string() };
        Ok(CandleOnnx { model: ModelProto::decode(bytes).map_err(refused)?, output: output.into() })
    }

    fn run(&self, feed: &Feed, pixels: &Pixels, batch: usize) -> candle_core::Result<RawOutput> {
        let shape = feed.shape(batch).to_vec();
        let tensor = match pixels {
            Pixels::Floats(x) => Tensor::from_slice(x, shape, &Device::Cpu)?,
            Pixels::Halves(x) => Tensor::from_slice(x, shape, &Device::Cpu)?,
            Pixels::Doubles(x) => Tensor::from_slice(x, shape, &Device::Cpu)?,
            Pixels::Bytes(x) => Tensor::from_slice(x, shape, &Device::Cpu)?,
        };
        let fed = HashMap::from([(feed.input.clone(), tensor)]);
        let found = candle_onnx::simple_eval(&self.model, fed)?.remove(&self.output);
        let found = found.ok_or_else(|| candle_core::Error::Msg(format!("no `{}`", self.output)))?;
        let values = found.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(RawOutput { dims: found.dims().to_vec(), values })
    }
}

/// Returns the message of an error, without a backtrace and without the node in Rust's debug format.
fn reason(mut error: &candle_core::Error) -> String {
    while let candle_core::Error::WithBacktrace { inner, .. } = error {
        error = inner;
    }
    let text = error.to_string();
    brief(text.split_once(" for op NodeProto").map_or(text.as_str(), |(before, _)| before))
}

impl Library for CandleOnnx {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::CandleOnnx
    }

    fn compute(&self, feed: &Feed, pixels: Pixels, batch: usize) -> Result<RawOutput> {
        let help = "help: set `runtime` to ort, which has every operator; `milenas-export` writes files for it with setting `target` candle-onnx";
        let failed = |e| Error::Runtime {
            name: RuntimeKind::CandleOnnx.name(),
            problem: format!("{}. {help}", reason(&e)),
        };
        self.run(feed, &pixels, batch).map_err(failed)
    }
}
