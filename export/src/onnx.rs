//! Encoder and decoder of ONNX files.
//!
//! | operation | ONNX | remarks |
//! | --- | --- | --- |
//! | `Input` | graph input | dimension 0 is `batch`; images have the denotations of the standard; a uint8 input is followed by `Cast` and `Transpose` |
//! | `Conv2d` | `Conv` | every attribute is written; read also with `auto_pad` |
//! | `BatchNorm` | `BatchNormalization` | with weight and bias, running statistics, one output |
//! | `Pool2d` | `MaxPool`, `AveragePool` | read also with `auto_pad`, and with `ceil_mode` if padding can express it |
//! | `GlobalAvgPool` | `GlobalAveragePool` | read also as `ReduceMean` over rows and columns |
//! | `Linear` | `Gemm` with `transB` | read with any `alpha`, `beta` and `transB`, and as `MatMul` |
//! | `Relu`, `Softmax`, `Concat` | the same | |
//! | `Add` | `Add` | read also as `Sum` |
//! | `Slice` | `Slice` | bounds are int64 initialisers |
//! | `Flatten` | `Flatten` | read also as a `Reshape` with the same effect |
//! | `Identity` | `Identity` | read also as `Dropout` in inference |
//! | `FakeQuantize` | `QuantizeLinear`, `DequantizeLinear` | one scale and one zero point; integers are uint8, read also as int8 |
//! | `Zero` of stride 1 | `Clip(x, 0, 0)` | the only form that is exact for every batch size |
//!
//! Reading a written file gives the same graph, names, weights and metadata.

mod attributes;
mod boundary;
mod decode;
mod encode;
mod external;
mod interface;
mod limits;
mod operators;
pub mod schema;
mod tensors;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use milenas_models::{Graph, Weights, file};

pub use boundary::{Ending, ImageLayout};
pub use decode::{decode, decode_proto};
pub use encode::{encode, encode_as};
pub use external::load_external;
pub use interface::{Interface, Output, Port, interface, only_output, proto};
pub use limits::{MAX_FILE_BYTES, MAX_INTERFACE_BYTES, MAX_LIVE_NUMBERS, MAX_WORK};

use crate::Result;

/// Default operator set. ONNX Runtime 1.15 and later readers accept it.
pub const OPSET: i64 = 17;
/// Operator sets that can be written.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=22;
/// Newest operator set that can be read.
pub const NEWEST_OPSET: i64 = 24;

/// Operator set and storage of a written file.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxFormat {
    /// One of [`OPSETS`].
    pub opset: i64,
    /// True to store weights of two or more dimensions as float16, with a `Cast` to float32 in the graph.
    pub half: bool,
    /// True if the input of the file is uint8 `[N, H, W, C]`. The input of the graph holds the same values as
    /// floats `[N, C, H, W]`.
    pub bytes: bool,
    /// Parameters stored as integers, by name, each with a `DequantizeLinear` in the graph.
    pub integers: BTreeMap<String, Integers>,
}

/// Integer type and scales of a stored parameter. An element is its integer times the scale of its index on
/// the first axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Integers {
    /// 8 bits; one scale for each index of the first axis.
    Int8(Vec<f32>),
    /// 32 bits; one scale for each index of the first axis.
    Int32(Vec<f32>),
}

impl Default for OnnxFormat {
    fn default() -> Self {
        OnnxFormat { opset: OPSET, half: false, bytes: false, integers: BTreeMap::new() }
    }
}

impl OnnxFormat {
    /// Returns the smallest IR version that supports the operator set, by onnx's table of released versions.
    pub fn ir_version(&self) -> i64 {
        match self.opset {
            ..=14 => 7,
            15..=18 => 8,
            19..=20 => 9,
            _ => 10,
        }
    }
}

/// Content of a decoded file.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Graph of the network.
    pub graph: Graph,
    /// Values of the parameters.
    pub weights: Weights,
    /// Metadata properties.
    pub metadata: BTreeMap<String, String>,
    /// True if the input of the file is uint8 `[N, H, W, C]`, see [`OnnxFormat::bytes`].
    pub bytes: bool,
}

/// Reads and decodes a file.
///
/// # Errors
/// Returns the errors of [`decode`] and [`load_external`], and an error if the file cannot be read or is too large.
pub fn read(path: &Path) -> Result<Decoded> {
    let place = path.display().to_string();
    let mut model = proto(file::read(path, MAX_FILE_BYTES)?.into(), &place)?;
    load_external(&mut model, path)?;
    decode_proto(&model, &place)
}
