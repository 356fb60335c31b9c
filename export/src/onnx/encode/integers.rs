//! Encoding of 8-bit and 32-bit integers: `QuantizeLinear` and `DequantizeLinear`, each with scale and zero
//! point.

use milenas_models::graph::{Node, Param, Value};
use milenas_models::op::FakeQuantize;

use super::super::Integers;
use super::super::attributes::int;
use super::super::tensors::{f32s, i8s, i32s, u8s};
use super::Names;
use crate::onnx::schema as onnx;
use crate::{Error, Result};

/// Encodes a parameter as integers, scales and zero points, and the `DequantizeLinear` node that reads them.
pub(super) fn as_integers(
    names: &mut Names,
    param: &Param,
    data: &[f32],
    integers: &Integers,
) -> Result<([onnx::TensorProto; 3], onnx::NodeProto)> {
    let (Integers::Int8(scales) | Integers::Int32(scales)) = integers;
    let places = scales.len();
    if places == 0 || param.shape.first() != Some(&places) {
        let problem = format!("{places} scales for its shape {:?}", param.shape);
        return Err(Error::NotLowered { node: param.name.clone(), problem });
    }
    let inner = data.len() / places;
    let rounded = data.iter().enumerate().map(|(i, x)| (x / scales[i / inner]).round_ties_even());
    let [stored, scale, zero] =
        ["integers", "scale", "zero_point"].map(|role| names.fresh(format!("{}.{role}", param.name)));
    // The cast from float to integer saturates.
    let (tensor, zeros) = match integers {
        Integers::Int8(_) => {
            let numbers: Vec<i8> = rounded.map(|x| x as i8).collect();
            (i8s(&stored, &param.shape, &numbers), i8s(&zero, &[places], &vec![0; places]))
        }
        Integers::Int32(_) => {
            let numbers: Vec<i32> = rounded.map(|x| x as i32).collect();
            (i32s(&stored, &param.shape, &numbers), i32s(&zero, &[places], &vec![0; places]))
        }
    };
    let node = onnx::NodeProto {
        name: param.name.clone(),
        op_type: "DequantizeLinear".into(),
        input: vec![stored, scale.clone(), zero],
        output: vec![param.name.clone()],
        attribute: vec![int("axis", 0)],
        ..Default::default()
    };
    Ok(([tensor, f32s(&scale, &[places], scales), zeros], node))
}

/// Returns the pair of nodes that rounds a wire, with their scale and zero point.
pub(super) fn rounding(
    names: &mut Names,
    node: &Node,
    grid: &FakeQuantize,
    value: Value,
) -> ([onnx::TensorProto; 2], [onnx::NodeProto; 2]) {
    let [integers, scale, zero] =
        ["integers", "scale", "zero_point"].map(|role| names.fresh(format!("{}.{role}", node.name)));
    let zeros = match grid.signed {
        true => i8s(&zero, &[], &[grid.zero as i8]),
        false => u8s(&zero, &[], &[grid.zero as u8]),
    };
    let step = |operator: &str, name: &str, from: &str, to: &str| onnx::NodeProto {
        name: name.into(),
        op_type: operator.into(),
        input: vec![from.into(), scale.clone(), zero.clone()],
        output: vec![to.into()],
        ..Default::default()
    };
    let read = node.inputs.first().map_or("", |v| names.wire(*v));
    let pair = [
        step("QuantizeLinear", &integers, read, &integers),
        step("DequantizeLinear", &node.name, &integers, names.wire(value)),
    ];
    ([f32s(&scale, &[], &[grid.scale]), zeros], pair)
}
