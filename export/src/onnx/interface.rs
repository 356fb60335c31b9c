//! Inputs and outputs of a file with any operators, for runtimes that run the file unchanged.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display, Formatter};

use milenas_models::Error as Model;
use prost::Message;
use prost::bytes::Bytes;

use super::boundary::{self, Ending, ImageLayout};
use super::decode::metadata;
use super::limits::{self, MAX_INTERFACE_BYTES, at_most};
use super::schema::tensor_shape_proto::{Dimension, dimension};
use super::schema::{DataLocation, DataType, ModelProto, TensorProto, ValueInfoProto, type_proto};
use crate::Result;

/// Inputs, outputs and metadata of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// Inputs to feed. Initialisers that older files list among the inputs are omitted.
    pub inputs: Vec<Port>,
    /// Outputs, in the order of the file.
    pub outputs: Vec<Output>,
    /// Metadata properties of the file.
    pub metadata: BTreeMap<String, String>,
    /// Layout of the first input, if the operators that read it show one.
    pub layout: Option<ImageLayout>,
    /// Channels of the first input, if the convolution that reads it shows them.
    pub channels: Option<usize>,
    /// Paths of the external data files, relative to the model's folder, sorted.
    pub external: Vec<String>,
}

/// Name and type of an input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Element type; [`DataType::Undefined`] if the value is not a tensor.
    pub kind: DataType,
    /// Shape, with `None` for a dimension of any size. `None` if the rank is unknown.
    pub dims: Option<Vec<Option<usize>>>,
}

/// Output with the operator that computes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Name and type.
    pub port: Port,
    /// Kind of the last operator that does more than reshape, cast or round.
    pub ending: Ending,
    /// Class names of a `ZipMap`, whose output is a list of maps from name to score.
    pub zip_map: Option<Vec<String>>,
}

/// Formats the type like `FLOAT [?, 3, 32, 32]`.
impl Display for Port {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match (&self.dims, self.kind) {
            (_, DataType::Undefined) => write!(f, "no tensor"),
            (None, kind) => write!(f, "{kind} of unknown shape"),
            (Some(dims), kind) => {
                let dims: Vec<String> =
                    dims.iter().map(|dim| dim.map_or("?".into(), |n| n.to_string())).collect();
                write!(f, "{kind} [{}]", dims.join(", "))
            }
        }
    }
}

/// Parses the bytes of a file; `place` is the file's name in messages.
///
/// # Errors
/// Returns an error if the bytes are not an ONNX model, or exceed a limit.
pub fn proto(bytes: Bytes, place: &str) -> Result<ModelProto> {
    at_most(place, "the size in bytes", bytes.len() as u64, MAX_INTERFACE_BYTES)?;
    limits::check_fields(&bytes, place)?;
    let model = ModelProto::decode(bytes).map_err(|e| {
        let problem = format!("not a whole ONNX file ({e}). help: is it truncated, or another format?");
        Model::malformed(place, problem)
    })?;
    match model.graph {
        Some(_) => Ok(model),
        None => {
            Err(Model::malformed(place, "it contains no graph. help: check that it is an ONNX file").into())
        }
    }
}

/// Returns the inputs and outputs of a file.
///
/// # Errors
/// Returns an error if the model has no graph, or a metadata key occurs twice.
pub fn interface(model: &ModelProto, place: &str) -> Result<Interface> {
    let Some(graph) = &model.graph else {
        return Err(Model::malformed(place, "it contains no graph").into());
    };
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let fed = graph.input.iter().filter(|info| !constants.contains(info.name.as_str()));
    let inputs: Vec<Port> = fed.map(port).collect();
    let output = |info: &ValueInfoProto| Output {
        port: port(info),
        ending: boundary::ending(graph, &info.name),
        zip_map: boundary::zip_map(graph, &info.name),
    };
    let first = inputs.first().map_or("", |port| port.name.as_str());
    let (layout, channels) = boundary::layout(graph, first);
    Ok(Interface {
        layout,
        channels,
        outputs: graph.output.iter().map(output).collect(),
        metadata: metadata(model, place)?,
        external: external(model),
        inputs,
    })
}

/// Removes all outputs except `name`, and the nodes that only the removed outputs need.
pub fn only_output(mut model: ModelProto, name: &str) -> ModelProto {
    let Some(graph) = &mut model.graph else { return model };
    if graph.output.len() < 2 {
        return model;
    }
    graph.output.retain(|output| output.name == name);
    let mut needed: HashSet<String> = HashSet::from([name.to_string()]);
    let mut kept: Vec<_> = std::mem::take(&mut graph.node);
    // Nodes follow those whose results they read.
    kept = kept
        .into_iter()
        .rev()
        .filter(|node| {
            let keep = node.output.iter().any(|output| needed.contains(output));
            if keep {
                needed.extend(node.input.iter().cloned());
            }
            keep
        })
        .collect();
    kept.reverse();
    graph.node = kept;
    model
}

fn port(info: &ValueInfoProto) -> Port {
    let name = info.name.clone();
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Port { name, kind: DataType::Undefined, dims: None };
    };
    let size = |dim: &Dimension| match dim.value {
        Some(dimension::Value::DimValue(n)) => usize::try_from(n).ok().filter(|&n| n > 0),
        _ => None,
    };
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(size).collect());
    Port { name, kind: DataType::of(tensor.elem_type), dims }
}

/// Returns the files that hold external tensor data, also for graphs inside nodes.
fn external(model: &ModelProto) -> Vec<String> {
    let mut graphs: Vec<_> = model.graph.iter().collect();
    let mut found = Vec::new();
    while let Some(graph) = graphs.pop() {
        let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
        graphs.extend(attributes().filter_map(|attribute| attribute.g.as_ref()));
        let tensors = graph.initializer.iter().chain(attributes().filter_map(|a| a.t.as_ref()));
        found.extend(tensors.filter_map(location));
    }
    found.sort();
    found.dedup();
    found
}

fn location(tensor: &TensorProto) -> Option<String> {
    let is_external = tensor.data_location() == DataLocation::External;
    let entry = tensor.external_data.iter().find(|entry| entry.key == "location").filter(|_| is_external)?;
    Some(entry.value.clone())
}
