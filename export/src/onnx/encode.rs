//! Encodes a lowered graph as ONNX, one ONNX node per graph node. A `FakeQuantize` becomes two nodes. Parameters
//! stored as float16 or integers, and uint8 inputs, add conversion nodes.

mod integers;
mod shuffle;

use std::collections::{BTreeMap, HashSet};

use milenas_models::Weights;
use milenas_models::graph::{Dim, Fact, Graph, Value};
use milenas_models::op::{
    Activation, BatchNorm, Concat, Conv2d, Flatten, Linear, Op, Padding, Pool2d, PoolKind,
};
use milenas_models::op::{Slice, Softmax, Zero};
use prost::Message;

use super::attributes::{float, int, ints};
use super::schema::tensor_shape_proto::{Dimension, dimension};
use super::schema::{self as onnx, DataType, type_proto};
use super::tensors::{f16s, f32s, i64s};
use super::{OPSETS, OnnxFormat};
use crate::{Error, Result};

/// Name of the symbolic batch dimension.
const BATCH: &str = "batch";

/// Encodes a graph as the bytes of a file. Equal arguments give equal bytes.
///
/// # Errors
/// Returns an error if the graph breaks a rule of the representation, or if the weights belong to another
/// network. [`Error::NotLowered`] for an operation that [`Target::lower`](crate::Target::lower) would have rewritten.
pub fn encode(graph: &Graph, weights: &Weights, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    encode_as(graph, weights, metadata, &OnnxFormat::default())
}

/// Encodes as [`encode`] does, in a given format.
///
/// # Errors
/// Returns the errors of [`encode`]. Also returns an error if the operator set is out of range, or if the
/// format cannot store a weight or an input.
pub fn encode_as(
    graph: &Graph,
    weights: &Weights,
    metadata: &BTreeMap<String, String>,
    format: &OnnxFormat,
) -> Result<Vec<u8>> {
    if !OPSETS.contains(&format.opset) {
        let (found, expected) = (format.opset.to_string(), "13 to 22".to_string());
        return Err(milenas_models::Error::Value { what: "opset".into(), found, expected }.into());
    }
    graph.check()?;
    weights.check(graph)?;
    let mut names = Names::of(graph)?;
    let (mut nodes, mut input, mut value_info) = (Vec::new(), Vec::new(), Vec::new());
    let mut initializer = Vec::new();
    for param in graph.params() {
        let missing = || milenas_models::Error::Weights { problem: format!("`{}` is missing", param.name) };
        let tensor = weights.get(&param.name).ok_or_else(missing)?;
        let data: Vec<f32> =
            tensor.flatten_all().and_then(|x| x.to_vec1()).map_err(milenas_models::Error::from)?;
        if let Some(kind) = format.integers.get(&param.name) {
            let (constants, node) = integers::as_integers(&mut names, param, &data, kind)?;
            initializer.extend(constants);
            nodes.push(node);
        } else if format.half && param.shape.len() > 1 {
            let stored = names.fresh(format!("{}.float16", param.name));
            let range = || Error::NotLowered {
                node: param.name.clone(),
                problem: "one of its values is outside the range of float16".into(),
            };
            initializer.push(f16s(&stored, &param.shape, &data).ok_or_else(range)?);
            nodes.push(cast(&stored, &param.name));
        } else {
            initializer.push(f32s(&param.name, &param.shape, &data));
        }
    }
    for (value, node) in graph.values() {
        let info = value_of(names.wire(value), &node.fact);
        if let Op::Input(_) = node.op {
            if !format.bytes {
                input.push(described(info));
                continue;
            }
            let [n, c, h, w] = node.fact.dims()[..] else {
                let problem = format!("it is {}, an input of bytes is an image", node.fact);
                return Err(Error::NotLowered { node: node.name.clone(), problem });
            };
            // The uint8 input takes the name of the graph's input; the wire of converted values gets a new
            // name.
            let bytes = names.wire(value).to_string();
            let floats = names.fresh(format!("{bytes}.cast"));
            let planes = names.fresh(format!("{bytes}.planes"));
            input.push(described(bytes_of(&bytes, &Fact::new(vec![n, h, w, c]))));
            nodes.push(cast(&bytes, &floats));
            nodes.push(onnx::NodeProto {
                name: planes.clone(),
                op_type: "Transpose".into(),
                input: vec![floats],
                output: vec![planes.clone()],
                attribute: vec![ints("perm", &[0, 3, 1, 2])],
                ..Default::default()
            });
            names.wires[value.index()] = planes;
            continue;
        }
        if let Op::FakeQuantize(grid) = &node.op {
            let (constants, pair) = integers::rounding(&mut names, node, grid, value);
            initializer.extend(constants);
            nodes.extend(pair);
            if !graph.is_output(value) {
                value_info.push(info);
            }
            continue;
        }
        if let Op::ChannelShuffle(shuffle) = &node.op {
            let (constants, steps) = shuffle::shuffled(&mut names, graph, node, shuffle, value)?;
            initializer.extend(constants);
            nodes.extend(steps);
            if !graph.is_output(value) {
                value_info.push(info);
            }
            continue;
        }
        let refuse = |problem| Error::NotLowered { node: node.name.clone(), problem };
        let Spelled { operator, attributes, constants } = spell(&node.op, format.opset).map_err(refuse)?;
        let wires = node.inputs.iter().map(|v| names.wire(*v).to_string());
        let params = node.params.iter().map(|p| p.name.clone());
        let mut reads: Vec<String> = wires.chain(params).collect();
        for (role, mut tensor) in constants {
            tensor.name = names.fresh(format!("{}.{role}", node.name));
            reads.push(tensor.name.clone());
            initializer.push(tensor);
        }
        nodes.push(onnx::NodeProto {
            name: node.name.clone(),
            op_type: operator.into(),
            input: reads,
            output: vec![names.wire(value).to_string()],
            attribute: attributes,
            ..Default::default()
        });
        if !graph.is_output(value) {
            value_info.push(info);
        }
    }
    let output = graph.outputs().iter().map(|(name, value)| value_of(name, graph.fact(*value))).collect();
    let metadata = metadata
        .iter()
        .map(|(key, value)| onnx::StringStringEntryProto { key: key.clone(), value: value.clone() });
    let model = onnx::ModelProto {
        ir_version: format.ir_version(),
        opset_import: vec![onnx::OperatorSetIdProto { domain: String::new(), version: format.opset }],
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        model_version: 1,
        graph: Some(onnx::GraphProto {
            name: "network".into(),
            node: nodes,
            initializer,
            input,
            output,
            value_info,
            ..Default::default()
        }),
        metadata_props: metadata.collect(),
        ..Default::default()
    };
    Ok(model.encode_to_vec())
}

/// Returns a `Cast` node from `from` to float32.
fn cast(from: &str, to: &str) -> onnx::NodeProto {
    onnx::NodeProto {
        name: to.into(),
        op_type: "Cast".into(),
        input: vec![from.into()],
        output: vec![to.into()],
        attribute: vec![int("to", DataType::Float as usize)],
        ..Default::default()
    }
}

fn bytes_of(name: &str, fact: &Fact) -> onnx::ValueInfoProto {
    let mut info = value_of(name, fact);
    if let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        tensor.elem_type = DataType::Uint8.into();
    }
    info
}

/// Names of wires. Inputs, results and parameters keep their names from the graph. Another wire has the name
/// of its node, with underscores appended if the name is taken.
struct Names {
    wires: Vec<String>,
    taken: HashSet<String>,
}

impl Names {
    fn of(graph: &Graph) -> Result<Self> {
        let mut names = Names { wires: vec![String::new(); graph.nodes().len()], taken: HashSet::new() };
        let inputs = graph.inputs().map(|v| (graph.node(v).name.as_str(), Some(v)));
        let outputs = graph.outputs().iter().map(|(name, v)| (name.as_str(), Some(*v)));
        let params = graph.params().map(|p| (p.name.as_str(), None));
        for (name, value) in inputs.chain(outputs).chain(params) {
            let refuse =
                |problem: &str| Err(Error::NotLowered { node: name.into(), problem: problem.into() });
            if name.is_empty() || !names.taken.insert(name.into()) {
                return refuse("an input, result or parameter needs a name of its own. help: rename it");
            }
            let Some(value) = value else { continue };
            if !names.wires[value.index()].is_empty() {
                return refuse(
                    "its wire is already an input or another result. help: put an Identity between",
                );
            }
            names.wires[value.index()] = name.into();
        }
        for (value, node) in graph.values() {
            if names.wires[value.index()].is_empty() {
                names.wires[value.index()] = names.fresh(node.name.clone());
            }
        }
        Ok(names)
    }

    fn wire(&self, value: Value) -> &str {
        &self.wires[value.index()]
    }

    fn fresh(&mut self, mut name: String) -> String {
        while name.is_empty() || !self.taken.insert(name.clone()) {
            name.push('_');
        }
        name
    }
}

fn value_of(name: &str, fact: &Fact) -> onnx::ValueInfoProto {
    let dim = |dim: &Dim| {
        let value = match dim {
            Dim::Batch => dimension::Value::DimParam(BATCH.into()),
            Dim::Fixed(n) => dimension::Value::DimValue(*n as i64),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let shape = onnx::TensorShapeProto { dim: fact.dims().iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: DataType::Float.into(), shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    let kind = onnx::TypeProto { value, ..Default::default() };
    onnx::ValueInfoProto { name: name.into(), r#type: Some(kind) }
}

/// Sets the "Type Denotation" and "Dimension Denotation" of the ONNX standard for images (rank 4).
fn described(mut info: onnx::ValueInfoProto) -> onnx::ValueInfoProto {
    if let Some(kind) = &mut info.r#type
        && let Some(type_proto::Value::TensorType(type_proto::Tensor { shape: Some(shape), elem_type })) =
            &mut kind.value
        && shape.dim.len() == 4
    {
        kind.denotation = "IMAGE".into();
        let words = match *elem_type == DataType::Uint8 as i32 {
            false => ["DATA_BATCH", "DATA_CHANNEL", "DATA_FEATURE", "DATA_FEATURE"],
            true => ["DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL"],
        };
        shape.dim.iter_mut().zip(words).for_each(|(dim, word)| dim.denotation = word.into());
    }
    info
}

/// ONNX form of an operation. The node reads its wires, then its parameters, then these constants.
struct Spelled {
    operator: &'static str,
    attributes: Vec<onnx::AttributeProto>,
    constants: Vec<(&'static str, onnx::TensorProto)>,
}

impl Spelled {
    fn new(operator: &'static str, attributes: Vec<onnx::AttributeProto>) -> Self {
        Spelled { operator, attributes, constants: Vec::new() }
    }
}

fn pads(p: &Padding) -> onnx::AttributeProto {
    ints("pads", &[p.top, p.left, p.bottom, p.right])
}

fn spell(op: &Op, opset: i64) -> std::result::Result<Spelled, String> {
    Ok(match op {
        Op::Input(_) => return Err("an input is not a node".into()),
        Op::Conv2d(Conv2d { kernel, stride, padding, dilation, groups, .. }) => Spelled::new(
            "Conv",
            vec![
                ints("dilations", dilation),
                int("group", *groups),
                ints("kernel_shape", kernel),
                pads(padding),
                ints("strides", stride),
            ],
        ),
        Op::BatchNorm(BatchNorm { affine: false, .. }) => {
            return Err("a BatchNorm without weight and bias. help: run the pass lower_batch_norm".into());
        }
        Op::BatchNorm(BatchNorm { eps, momentum, .. }) => Spelled::new(
            "BatchNormalization",
            // ONNX's momentum weighs the running statistics; PyTorch's and this project's weighs those of the
            // batch.
            // Operator set 13 has no `training_mode`.
            [float("epsilon", *eps), float("momentum", 1.0 - momentum)]
                .into_iter()
                .chain((opset >= 14).then(|| int("training_mode", 0)))
                .collect(),
        ),
        Op::Pool2d(pool) => pooling(pool, opset)?,
        Op::GlobalAvgPool(_) => Spelled::new("GlobalAveragePool", vec![]),
        Op::Linear(Linear { .. }) => Spelled::new(
            "Gemm",
            vec![float("alpha", 1.0), float("beta", 1.0), int("transA", 0), int("transB", 1)],
        ),
        Op::Relu(_) => Spelled::new("Relu", vec![]),
        Op::Activation(activation) => activated(*activation, opset)?,
        Op::Add(_) => Spelled::new("Add", vec![]),
        Op::Mul(_) => Spelled::new("Mul", vec![]),
        Op::Concat(Concat { axis }) => Spelled::new("Concat", vec![int("axis", *axis)]),
        Op::Slice(Slice { ranges }) => {
            let axes: HashSet<usize> = ranges.iter().map(|r| r.axis).collect();
            if axes.len() < ranges.len() {
                return Err("it cuts one axis twice".into());
            }
            let list = |f: fn(&milenas_models::op::Range) -> usize| {
                i64s("", &[ranges.len()], &ranges.iter().map(|r| f(r) as i64).collect::<Vec<_>>())
            };
            let constants =
                vec![("starts", list(|r| r.start)), ("ends", list(|r| r.end)), ("axes", list(|r| r.axis))];
            Spelled { constants, ..Spelled::new("Slice", vec![]) }
        }
        Op::Flatten(Flatten { axis }) => Spelled::new("Flatten", vec![int("axis", *axis)]),
        Op::Softmax(Softmax { axis }) => Spelled::new("Softmax", vec![int("axis", *axis)]),
        Op::Identity(_) => Spelled::new("Identity", vec![]),
        Op::Zero(Zero { stride: 1 }) => {
            let constants = vec![("min", f32s("", &[], &[0.0])), ("max", f32s("", &[], &[0.0]))];
            Spelled { constants, ..Spelled::new("Clip", vec![]) }
        }
        Op::FakeQuantize(_) => return Err("it is two nodes".into()),
        Op::ChannelShuffle(_) => return Err("it is three nodes".into()),
        Op::Zero(_) => return Err("strided zeros. help: run the pass lower_none".into()),
    })
}

fn activated(activation: Activation, opset: i64) -> std::result::Result<Spelled, String> {
    Ok(match activation {
        Activation::Clip { min, max } => {
            let constants = vec![("min", f32s("", &[], &[min])), ("max", f32s("", &[], &[max]))];
            Spelled { constants, ..Spelled::new("Clip", vec![]) }
        }
        Activation::LeakyRelu { slope } => Spelled::new("LeakyRelu", vec![float("alpha", slope.into())]),
        Activation::Sigmoid => Spelled::new("Sigmoid", vec![]),
        Activation::HardSigmoid { slope, offset } => {
            Spelled::new("HardSigmoid", vec![float("alpha", slope.into()), float("beta", offset.into())])
        }
        Activation::HardSwish if opset < 14 => {
            return Err(format!("operator set {opset} has no HardSwish. help: --opset 14 or later"));
        }
        Activation::HardSwish => Spelled::new("HardSwish", vec![]),
        Activation::Tanh => Spelled::new("Tanh", vec![]),
    })
}

fn pooling(pool: &Pool2d, opset: i64) -> std::result::Result<Spelled, String> {
    let Pool2d { kind, kernel, stride, padding, dilation } = pool;
    let mut attributes =
        vec![int("ceil_mode", 0), ints("kernel_shape", kernel), pads(padding), ints("strides", stride)];
    Ok(match kind {
        PoolKind::Max => {
            attributes.extend([ints("dilations", dilation), int("storage_order", 0)]);
            Spelled::new("MaxPool", attributes)
        }
        PoolKind::Average { .. } if *dilation != [1, 1] => {
            return Err(format!("average pooling with dilation, which operator set {opset} does not have"));
        }
        PoolKind::Average { count_padding } => {
            attributes.push(int("count_include_pad", usize::from(*count_padding)));
            Spelled::new("AveragePool", attributes)
        }
    })
}
