//! candle-onnx's evaluator, for files of `--target candle-onnx` and others of the operators it has.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use candle_onnx::onnx::ModelProto;

use super::{Feed, Kind, Pixels, Runtime};
use crate::answer::Answer;
use crate::{Error, Result};

/// A file, evaluated operator by operator: to compare with, not for speed.
pub struct CandleOnnx {
    model: ModelProto,
    feed: Feed,
}

impl CandleOnnx {
    /// On a decoded file.
    pub fn new(model: ModelProto, feed: Feed) -> Self {
        CandleOnnx { model, feed }
    }

    fn compute(&self, pixels: Pixels, batch: usize) -> candle_core::Result<Vec<f32>> {
        let shape = self.feed.shape(batch).to_vec();
        let tensor = match &pixels {
            Pixels::Floats(x) => Tensor::from_slice(x, shape, &Device::Cpu)?,
            Pixels::Bytes(x) => Tensor::from_slice(x, shape, &Device::Cpu)?,
        };
        let fed = HashMap::from([(self.feed.input.clone(), tensor)]);
        let found = candle_onnx::simple_eval(&self.model, fed)?.remove(&self.feed.output);
        let found = found.ok_or_else(|| candle_core::Error::Msg(format!("no `{}`", self.feed.output)))?;
        found.flatten_all()?.to_vec1::<f32>()
    }
}

/// Without the calls that led to it, which candle may add.
fn reason(mut error: &candle_core::Error) -> String {
    while let candle_core::Error::WithBacktrace { inner, .. } = error {
        error = inner;
    }
    error.to_string()
}

impl Runtime for CandleOnnx {
    fn run(&self, images: &[f32], _: usize) -> Result<Vec<Answer>> {
        let help = "Help: `milenas-export --target candle-onnx` writes files that it runs";
        let failed =
            |e| Error::Runtime { name: Kind::CandleOnnx.name(), problem: format!("{}. {help}", reason(&e)) };
        self.feed
            .answers(images, Kind::CandleOnnx, |pixels, batch| self.compute(pixels, batch).map_err(failed))
    }
}
