//! What a file takes and gives, whatever operators lie in between: for runtimes that run it as it is.

use std::collections::{BTreeMap, HashSet};

use candle_onnx::onnx::tensor_proto::DataType;
use candle_onnx::onnx::tensor_shape_proto::dimension;
use candle_onnx::onnx::{GraphProto, ModelProto, ValueInfoProto, type_proto};
use milenas_models::Error as Model;
use prost::Message;

use super::decode::metadata;
use super::limits::{self, MAX_FILE_BYTES, at_most};
use crate::Result;

/// The inputs, outputs and metadata of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// What must be fed: initialisers that older files list among the inputs are left out.
    pub inputs: Vec<Port>,
    /// What is computed.
    pub outputs: Vec<Port>,
    /// The text that travels with it.
    pub metadata: BTreeMap<String, String>,
    /// Whether the first output is a softmax or a sigmoid, but for its shape.
    pub probabilities: bool,
}

/// An input or an output.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The type of its numbers, in the format's words: `FLOAT`, `UINT8`.
    pub kind: &'static str,
    /// Its shape, `None` where any size goes; no shape is told of by no dimension.
    pub dims: Vec<Option<usize>>,
}

/// The message in a file; `place` names the file.
///
/// # Errors
/// A file that is none, or is over a limit.
pub fn proto(bytes: &[u8], place: &str) -> Result<ModelProto> {
    at_most(place, "the size in bytes", bytes.len() as u64, MAX_FILE_BYTES)?;
    limits::check_fields(bytes, place)?;
    let model = ModelProto::decode(bytes).map_err(|e| {
        let problem = format!("not a whole ONNX file ({e}). Help: is it truncated, or another format?");
        Model::malformed(place, problem)
    })?;
    match model.graph {
        Some(_) => Ok(model),
        None => Err(Model::malformed(place, "it holds no graph. Help: is it an ONNX file?").into()),
    }
}

/// What a file takes and gives.
///
/// # Errors
/// Metadata that comes twice, an input or output that is no tensor.
pub fn interface(model: &ModelProto, place: &str) -> Result<Interface> {
    let graph = model.graph.iter();
    let constants: HashSet<&str> =
        graph.clone().flat_map(|g| g.initializer.iter().map(|t| t.name.as_str())).collect();
    let read = |info: &ValueInfoProto| {
        port(info).ok_or_else(|| Model::malformed(format!("{place}, `{}`", info.name), "it is no tensor"))
    };
    let fed = graph.clone().flat_map(|g| &g.input).filter(|info| !constants.contains(info.name.as_str()));
    Ok(Interface {
        inputs: fed.map(read).collect::<std::result::Result<_, _>>()?,
        outputs: graph.clone().flat_map(|g| &g.output).map(read).collect::<std::result::Result<_, _>>()?,
        metadata: metadata(model, place)?,
        probabilities: graph.clone().any(ends_in_probabilities),
    })
}

fn port(info: &ValueInfoProto) -> Option<Port> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    let kind = DataType::try_from(tensor.elem_type).unwrap_or(DataType::Undefined).as_str_name();
    let size = |dim: &candle_onnx::onnx::tensor_shape_proto::Dimension| match dim.value {
        Some(dimension::Value::DimValue(n)) => usize::try_from(n).ok().filter(|&n| n > 0),
        _ => None,
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim).map(size).collect();
    Some(Port { name: info.name.clone(), kind, dims })
}

/// Follows the first output upwards through what only shapes it.
fn ends_in_probabilities(graph: &GraphProto) -> bool {
    let Some(mut wire) = graph.output.first().map(|output| output.name.as_str()) else { return false };
    for node in graph.node.iter().rev() {
        if node.output.first().is_none_or(|name| name != wire) {
            continue;
        }
        match (node.op_type.as_str(), node.input.first()) {
            ("Softmax" | "Sigmoid", _) => return true,
            ("Identity" | "Reshape" | "Flatten" | "Squeeze" | "Cast", Some(input)) => wire = input,
            _ => return false,
        }
    }
    false
}
