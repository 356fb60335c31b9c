//! Decoders of integers. A `QuantizeLinear` and `DequantizeLinear` pair rounds a wire. A single
//! `DequantizeLinear` converts an integer constant to floats.

use crate::onnx::schema::DataType;
use milenas_models::graph::Value;
use milenas_models::op::FakeQuantize;

use super::super::tensors::{self, QuantizationGrid};
use super::{NodeReader, Read};

/// Returns the grid with which a `DequantizeLinear` converts a constant.
pub(super) fn grid_of_constant<'a>(r: &NodeReader<'_, 'a>) -> Read<QuantizationGrid<'a>> {
    let axis = attributes(r)?;
    Ok(QuantizationGrid { scale: r.tensor(1)?.ok_or("it has no scale")?, zero: r.tensor(2)?, axis })
}

/// Returns the grid with which one node of a pair rounds a wire: one scale and one zero point.
pub(super) fn grid_of_wire(r: &NodeReader) -> Read<FakeQuantize> {
    attributes(r)?;
    let (_, scales) = r.floats(1)?.ok_or("it has no scale")?;
    let [scale] = scales[..] else {
        return Err(format!("it has {} scales, this program has one for a wire", scales.len()));
    };
    let (kind, zero) = match r.tensor(2)? {
        None => (DataType::Uint8, 0),
        Some(tensor) => {
            let [zero] = tensors::integers(tensor)?[..] else {
                return Err("its zero point is not a scalar".into());
            };
            (tensors::kind(tensor), zero)
        }
    };
    let signed = match kind {
        DataType::Uint8 => false,
        DataType::Int8 => true,
        other => return Err(format!("it makes {}, this program has UINT8 and INT8", other)),
    };
    Ok(FakeQuantize { scale, zero: i32::try_from(zero).map_err(|e| e.to_string())?, signed })
}

/// Decodes the `DequantizeLinear` of a pair as a `FakeQuantize`.
pub(super) fn dequantize(r: &mut NodeReader) -> Read<Value> {
    let quantized = r.quantized().ok_or("it reads no constant and no QuantizeLinear")?;
    let grid = grid_of_wire(r)?;
    if grid != quantized.grid {
        return Err(format!("it is {grid:?}, the QuantizeLinear before it {:?}", quantized.grid));
    }
    r.emit(grid, &[quantized.wire], vec![])
}

/// Checks the attributes of a node and returns its axis, which matters if there are several scales.
fn attributes(r: &NodeReader) -> Read<i64> {
    r.inputs(3)?;
    r.one_output()?;
    r.attributes.must_be("block_size", 0, 0)?;
    r.attributes.must_be("saturate", 1, 1)?;
    r.attributes.must_be("output_dtype", 0, 0)?;
    r.attributes.must_be("precision", 0, 0)?;
    r.attributes.int("axis", 1)
}
