//! Fully connected layers.

use milenas_models::graph::Value;
use milenas_models::op::Linear;

use super::{NodeReader, Read};

/// Decodes `alpha * x B + beta * C` with constant `B` and `C`. The weights absorb `alpha`, `beta` and a
/// transposition.
pub(super) fn gemm(r: &mut NodeReader) -> Read<Value> {
    r.inputs(3)?;
    r.attributes.must_be("transA", 0, 0)?;
    let (alpha, beta) = (r.attributes.float("alpha", 1.0)?, r.attributes.float("beta", 1.0)?);
    let transposed = r.attributes.int("transB", 0)? != 0;
    if r.opset < 7 {
        r.attributes.int("broadcast", 0)?;
    }
    let (x, (weight, sizes)) = (r.wire(0)?, weight(r, alpha, transposed)?);
    let [in_features, out_features] = sizes;
    let mut params = vec![weight];
    let bias = r.floats(2)?;
    if let Some((dims, numbers)) = &bias {
        let row = match dims[..] {
            [] | [1] | [1, 1] => vec![numbers[0]; out_features],
            [n] | [1, n] if n == out_features => numbers.clone(),
            _ => return Err(format!("C has shape {dims:?}, this program adds a row of {out_features}")),
        };
        params.push(match beta == 1.0 && dims[..] == [out_features] {
            true => r.param(2)?,
            false => r.new_param("bias", &[out_features], row.iter().map(|c| beta * c).collect())?,
        });
    }
    r.emit(Linear { in_features, out_features, bias: bias.is_some() }, &[x], params)
}

/// Decodes `x B` with a constant `B` as a layer without bias.
pub(super) fn matmul(r: &mut NodeReader) -> Read<Value> {
    r.inputs(2)?;
    let (x, (weight, [in_features, out_features])) = (r.wire(0)?, weight(r, 1.0, false)?);
    r.emit(Linear { in_features, out_features, bias: false }, &[x], vec![weight])
}

/// Returns the name of input 1 as a weight `[out, in]`, and its sizes `[in, out]`.
fn weight(r: &mut NodeReader, alpha: f32, transposed: bool) -> Read<(String, [usize; 2])> {
    let shape = r.param_shape(1)?;
    let [rows, columns] = shape[..] else {
        return Err(format!("B has shape {shape:?}, expected a matrix"));
    };
    if transposed && alpha == 1.0 {
        return Ok((r.param(1)?, [columns, rows]));
    }
    let (_, numbers) = r.floats(1)?.ok_or("input 1 is missing")?;
    let (scaled, sizes): (Vec<f32>, _) = match transposed {
        true => (numbers.iter().map(|b| alpha * b).collect(), [columns, rows]),
        false => {
            let at = |i: usize| alpha * numbers[i % rows * columns + i / rows];
            ((0..numbers.len()).map(at).collect(), [rows, columns])
        }
    };
    let [in_features, out_features] = sizes;
    Ok((r.new_param("weight", &[out_features, in_features], scaled)?, sizes))
}
