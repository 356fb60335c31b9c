//! Decodes ONNX into a graph. Every value of the file is validated before use.

use std::collections::{BTreeMap, HashSet};

use milenas_models::Error as Model;
use milenas_models::graph::{Dim, Fact};
use prost::bytes::Bytes;

use super::interface::proto;
use super::limits::{self, MAX_FILE_BYTES, MAX_NODES, MAX_OUTPUTS, at_most};
use super::operators::{self, Scope};
use super::schema::tensor_shape_proto::{Dimension, dimension};
use super::schema::{DataType, GraphProto, ModelProto, ValueInfoProto, type_proto};
use super::{Decoded, NEWEST_OPSET, attributes, tensors};
use crate::{Error, Result};

/// Decodes the network in a file; `place` is the file's name in messages.
///
/// # Errors
/// [`Error::Operators`] lists all operators that this program lacks. [`Error::Node`] describes a node that
/// cannot be read. [`Error::Model`] describes missing, duplicate or damaged parts and exceeded limits.
pub fn decode(bytes: &[u8], place: &str) -> Result<Decoded> {
    at_most(place, "the size in bytes", bytes.len() as u64, MAX_FILE_BYTES)?;
    decode_proto(&proto(Bytes::copy_from_slice(bytes), place)?, place)
}

/// Decodes a model that [`proto`](super::proto) has parsed.
///
/// # Errors
/// Returns the errors of [`decode`], except those of parsing the bytes.
pub fn decode_proto(model: &ModelProto, place: &str) -> Result<Decoded> {
    let Some(proto) = &model.graph else {
        return Err(Model::malformed(place, "it contains no graph").into());
    };
    let opset = opset(model, place)?;
    at_most(place, "the number of nodes", proto.node.len() as u64, MAX_NODES as u64)?;
    at_most(place, "the number of results", proto.output.len() as u64, MAX_OUTPUTS as u64)?;
    if proto.output.is_empty() {
        return Err(Model::malformed(place, "its graph has no result").into());
    }
    known_operators(proto, place)?;
    let mut scope = Scope::new(opset);
    read_constants(proto, &mut scope, place)?;
    read_inputs(proto, &mut scope, place)?;
    for node in &proto.node {
        let name = operators::label(node).to_string();
        operators::read(&mut scope, node).map_err(|problem| Error::Node {
            place: place.into(),
            node: name,
            operator: node.op_type.clone(),
            problem,
        })?;
    }
    for output in &proto.output {
        scope
            .define_output(&output.name)
            .map_err(|problem| Model::malformed(place, format!("result {problem}")))?;
    }
    let (builder, weights) = scope.finish();
    let graph = builder.finish().map_err(|e| Model::malformed(place, e.to_string()))?;
    weights.check(&graph).map_err(|e| e.within(place))?;
    limits::check_work(&graph, place)?;
    Ok(Decoded { graph, weights, metadata: metadata(model, place)?, bytes: has_bytes(proto) })
}

/// Returns the version of the standard operator set.
fn opset(model: &ModelProto, place: &str) -> Result<i64> {
    let versions = model.opset_import.iter().filter(|set| is_standard(&set.domain)).map(|set| set.version);
    match versions.collect::<Vec<_>>()[..] {
        [version] if (1..=NEWEST_OPSET).contains(&version) => Ok(version),
        [version] => {
            let problem = format!(
                "operator set {version}, this program reads 1 to {NEWEST_OPSET}. help: export with an older one"
            );
            Err(Model::malformed(place, problem).into())
        }
        ref several => {
            let problem =
                format!("it imports {} versions of the standard operators, expected 1", several.len());
            Err(Model::malformed(place, problem).into())
        }
    }
}

fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Refuses a file with operators that this program lacks, and lists all of them.
fn known_operators(proto: &GraphProto, place: &str) -> Result<()> {
    let mut unknown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in &proto.node {
        if !is_standard(&node.domain) {
            let operator = format!("{}.{}", node.domain, node.op_type);
            unknown.entry(operator).or_default().push(operators::label(node).into());
        } else if !operators::is_known(&node.op_type) {
            unknown.entry(node.op_type.clone()).or_default().push(operators::label(node).into());
        }
    }
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(Error::Operators { place: place.into(), operators: unknown.into_iter().collect() }),
    }
}

fn read_constants<'a>(proto: &'a GraphProto, scope: &mut Scope<'a>, place: &str) -> Result<()> {
    if let Some(sparse) = proto.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |v| v.name.as_str());
        return Err(Model::malformed(
            place,
            format!("`{name}` is a sparse tensor, this program reads dense ones"),
        )
        .into());
    }
    for tensor in &proto.initializer {
        let at = |problem| Model::malformed(format!("{place}, initialiser `{}`", tensor.name), problem);
        // Compare shape and data before any use, also for tensors that nothing reads.
        tensors::dims(tensor).map_err(at)?;
        scope.define_constant(&tensor.name, tensor).map_err(at)?;
    }
    Ok(())
}

fn read_inputs<'a>(proto: &'a GraphProto, scope: &mut Scope<'a>, place: &str) -> Result<()> {
    let mut seen = HashSet::new();
    for info in &proto.input {
        let at = |problem: String| Model::malformed(format!("{place}, input `{}`", info.name), problem);
        if !seen.insert(&info.name) {
            return Err(at("the name is taken".into()).into());
        }
        // Files older than IR version 4 list their initialisers among the inputs.
        if scope.is_constant(&info.name) {
            continue;
        }
        let (fact, kind) = fact(info).map_err(at)?;
        match kind {
            DataType::Uint8 => {
                let [n, h, w, c] = fact.dims()[..] else {
                    return Err(at(format!("it is {fact} of bytes, expected [N, H, W, C]")).into());
                };
                scope.define_pixels(&info.name, Fact::new(vec![n, c, h, w])).map_err(at)?;
            }
            _ => scope.define_input(&info.name, fact).map_err(at)?,
        }
    }
    Ok(())
}

/// Returns the shape and element type of an input: FLOAT or UINT8, with every dimension fixed except the
/// batch.
fn fact(info: &ValueInfoProto) -> std::result::Result<(Fact, DataType), String> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Err("it is not a tensor".into());
    };
    let kind = DataType::of(tensor.elem_type);
    if !matches!(kind, DataType::Float | DataType::Uint8) {
        return Err(format!("it is {}, this program reads FLOAT and UINT8", kind));
    }
    let Some(shape) = &tensor.shape else { return Err("it has no shape".into()) };
    let dim = |(i, dim): (usize, &Dimension)| match &dim.value {
        Some(dimension::Value::DimValue(n)) if *n > 0 => attributes::size("a dimension", *n).map(Dim::Fixed),
        Some(dimension::Value::DimValue(n)) if *n == 0 || i > 0 => Err(format!("dimension {i} is {n}")),
        _ if i == 0 => Ok(Dim::Batch),
        _ => Err(format!(
            "dimension {i} is not known, only the batch (dimension 0) may be left open. help: export with a fixed image size"
        )),
    };
    let dims = shape.dim.iter().enumerate().map(dim).collect::<std::result::Result<Vec<_>, _>>()?;
    if dims.len() > 8 {
        return Err(format!("rank is {}, the limit is 8", dims.len()));
    }
    let fact = Fact::new(dims);
    match fact.volume() {
        Some(_) => Ok((fact, kind)),
        None => Err(format!("its shape is {fact}")),
    }
}

/// Returns whether an input is uint8.
fn has_bytes(proto: &GraphProto) -> bool {
    let is_bytes = |info: &ValueInfoProto| match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type == DataType::Uint8 as i32,
        _ => false,
    };
    proto.input.iter().any(is_bytes)
}

pub(super) fn metadata(model: &ModelProto, place: &str) -> Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    for entry in &model.metadata_props {
        if metadata.insert(entry.key.clone(), entry.value.clone()).is_some() {
            return Err(Model::malformed(place, format!("metadata `{}` comes twice", entry.key)).into());
        }
    }
    Ok(metadata)
}
