//! candle-onnx if this program was built with it, otherwise a replacement whose error explains how to get it.

#[cfg(not(feature = "candle-onnx"))]
mod disabled;
#[cfg(feature = "candle-onnx")]
mod enabled;

#[cfg(not(feature = "candle-onnx"))]
pub use disabled::CandleOnnx;
#[cfg(feature = "candle-onnx")]
pub use enabled::CandleOnnx;
