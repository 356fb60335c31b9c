//! Channel shuffles: three ONNX nodes.

use milenas_models::graph::{Graph, Node, Value};
use milenas_models::op::ChannelShuffle;

use super::super::attributes::ints;
use super::super::tensors::i64s;
use super::Names;
use crate::onnx::schema as onnx;
use crate::{Error, Result};

/// Returns the nodes of a channel shuffle, a reshaping to groups, a transposition and a reshaping back, with the two shapes.
pub(super) fn shuffled(
    names: &mut Names,
    graph: &Graph,
    node: &Node,
    shuffle: &ChannelShuffle,
    value: Value,
) -> Result<([onnx::TensorProto; 2], [onnx::NodeProto; 3])> {
    let (channels, height, width) = node.fact.chw().ok_or_else(|| Error::NotLowered {
        node: node.name.clone(),
        problem: format!("it shuffles {}, which is no image", graph.fact(value)),
    })?;
    let [grouped, swapped, to_groups, back] =
        ["grouped", "swapped", "groups", "shape"].map(|role| names.fresh(format!("{}.{role}", node.name)));
    // A dimension of 0 is that of the input.
    let shape = |name: &str, dims: &[usize]| {
        let dims: Vec<i64> = std::iter::once(0).chain(dims.iter().map(|d| *d as i64)).collect();
        i64s(name, &[dims.len()], &dims)
    };
    let constants = [
        shape(&to_groups, &[shuffle.groups, channels / shuffle.groups, height, width]),
        shape(&back, &[channels, height, width]),
    ];
    let step =
        |operator: &str, name: &str, inputs: &[&str], output: &str, attribute: Vec<_>| onnx::NodeProto {
            name: name.into(),
            op_type: operator.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            attribute,
            ..Default::default()
        };
    let read = node.inputs.first().map_or("", |v| names.wire(*v));
    let steps = [
        step("Reshape", &grouped, &[read, &to_groups], &grouped, vec![]),
        step("Transpose", &swapped, &[&grouped], &swapped, vec![ints("perm", &[0, 2, 1, 3, 4])]),
        step("Reshape", &node.name, &[&swapped, &back], names.wire(value), vec![]),
    ];
    Ok((constants, steps))
}
