//! ONNX files, written and read.
//!
//! | operation | ONNX | what is particular |
//! | --- | --- | --- |
//! | `Input` | graph input | dimension 0 is `batch`; images carry the denotations of the standard |
//! | `Conv2d` | `Conv` | every attribute written; read also with `auto_pad` |
//! | `BatchNorm` | `BatchNormalization` | with weight and bias, running statistics, one output |
//! | `Pool2d` | `MaxPool`, `AveragePool` | read also with `auto_pad` and, where padding can say the same, `ceil_mode` |
//! | `GlobalAvgPool` | `GlobalAveragePool` | read also as `ReduceMean` over rows and columns |
//! | `Linear` | `Gemm` with `transB` | read with any `alpha`, `beta` and `transB`, and as `MatMul` |
//! | `Relu`, `Softmax`, `Concat` | the same | |
//! | `Add` | `Add` | read also as `Sum` |
//! | `Slice` | `Slice` | bounds are int64 initialisers |
//! | `Flatten` | `Flatten` | read also as a `Reshape` that does the same |
//! | `Identity` | `Identity` | read also as `Dropout` in inference |
//! | `Zero` of stride 1 | `Clip(x, 0, 0)` | the one exact form for every batch size |
//!
//! What is encoded is read back equal: graph, names, weights and metadata.

mod attributes;
mod decode;
mod encode;
mod limits;
mod operators;
mod tensors;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use milenas_models::{Graph, Weights, file};

pub use decode::decode;
pub use encode::encode;
pub use limits::{MAX_FILE_BYTES, MAX_LIVE_NUMBERS, MAX_WORK};

use crate::Result;

/// The operator set that is written: what ONNX Runtime 1.15 and every later reader accept.
pub const OPSET: i64 = 17;
/// The smallest version of the format that has [`OPSET`].
pub const IR_VERSION: i64 = 8;
/// The newest operator set that is read.
pub const NEWEST_OPSET: i64 = 24;

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The network.
    pub graph: Graph,
    /// Its numbers.
    pub weights: Weights,
    /// The text that travels with it.
    pub metadata: BTreeMap<String, String>,
}

/// Reads and decodes a file.
///
/// # Errors
/// Those of [`decode`], and a file that cannot be read or is too large.
pub fn read(path: &Path) -> Result<Decoded> {
    decode(&file::read(path, MAX_FILE_BYTES)?, &path.display().to_string())
}
