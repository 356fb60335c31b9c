//! Elementwise operators, and operators that have no effect in inference.

use milenas_models::graph::Value;
use milenas_models::op::{Add, Identity, Relu, Softmax, Zero};

use super::super::attributes::axis;
use super::{NodeReader, Read};

pub(super) fn relu(r: &mut NodeReader) -> Read<Value> {
    legacy_in_place(r)?;
    r.inputs(1)?;
    let x = r.wire(0)?;
    r.emit(Relu, &[x], vec![])
}

pub(super) fn identity(r: &mut NodeReader) -> Read<Value> {
    r.inputs(1)?;
    let x = r.wire(0)?;
    r.emit(Identity, &[x], vec![])
}

/// Decodes `Dropout` as `Identity`. Inference is the default since operator set 7; before that, the node must
/// state it.
pub(super) fn dropout(r: &mut NodeReader) -> Read<Value> {
    r.attributes.float("ratio", 0.5)?;
    r.attributes.int("seed", 0)?;
    legacy_in_place(r)?;
    if r.opset < 7 {
        r.attributes.must_be("is_test", 1, 0)?;
    }
    r.one_output()?;
    r.inputs(3)?;
    if r.integers(2)?.is_some_and(|mode| mode.iter().any(|&i| i != 0)) {
        return Err("it is in training mode. help: export the model in inference mode".into());
    }
    let x = r.wire(0)?;
    r.emit(Identity, &[x], vec![])
}

pub(super) fn add(r: &mut NodeReader) -> Read<Value> {
    r.inputs(2)?;
    let (a, b) = (r.wire(0)?, r.wire(1)?);
    if r.opset < 7 {
        let broadcast = r.attributes.int("broadcast", 0)?;
        let (rank_a, rank_b) = (r.fact(a).rank(), r.fact(b).rank());
        let suffix = rank_a as i64 - rank_b as i64;
        let from = r.attributes.int("axis", suffix)?;
        if broadcast == 0 && r.fact(a) != r.fact(b) {
            return Err("it adds different shapes without `broadcast`".into());
        }
        if from != suffix {
            return Err(format!("broadcast from axis {from}, this program has only the last axes"));
        }
    }
    legacy_in_place(r)?;
    r.emit(Add, &[a, b], vec![])
}

/// Decodes `Sum(a, b, c)` as `(a + b) + c`.
pub(super) fn sum(r: &mut NodeReader) -> Read<Value> {
    legacy_in_place(r)?;
    let mut sum = r.wire(0)?;
    if r.input_count() == 1 {
        return r.emit(Identity, &[sum], vec![]);
    }
    for i in 1..r.input_count() {
        let x = r.wire(i)?;
        sum = r.emit(Add, &[sum, x], vec![])?;
    }
    Ok(sum)
}

pub(super) fn softmax(r: &mut NodeReader) -> Read<Value> {
    r.inputs(1)?;
    let x = r.wire(0)?;
    let fact = r.fact(x);
    let default = if r.opset < 13 { 1 } else { -1 };
    let axis = axis(r.attributes.int("axis", default)?, fact.rank())?;
    // Before operator set 13, Softmax normalises over all axes from `axis` on together.
    if r.opset < 13 && fact.dims()[axis + 1..].iter().any(|d| d.fixed() != Some(1)) {
        return Err(format!("it sums over several axes of {fact}, this program has only one"));
    }
    r.emit(Softmax { axis }, &[x], vec![])
}

/// Decodes `Clip(x, 0, 0)`, which stands for zeros of the shape of `x`. Other bounds are refused.
pub(super) fn clip(r: &mut NodeReader) -> Read<Value> {
    r.inputs(3)?;
    let bounds = match r.opset {
        ..11 => [r.attributes.float("min", f32::MIN)?, r.attributes.float("max", f32::MAX)?],
        _ => {
            let bound = |i, default| match r.floats(i)? {
                None => Ok(default),
                Some((_, numbers)) => {
                    let [bound] = numbers[..] else { return Err("a bound is not a scalar".to_string()) };
                    Ok(bound)
                }
            };
            [bound(1, f32::MIN)?, bound(2, f32::MAX)?]
        }
    };
    let x = r.wire(0)?;
    match bounds {
        [0.0, 0.0] => r.emit(Zero { stride: 1 }, &[x], vec![]),
        [min, max] => {
            Err(format!("it clips to {min:e}..{max:e}, this program has only 0..0, which makes zeros"))
        }
    }
}

/// Accepts `consumed_inputs`, with which operators before set 6 could overwrite their input. It changes no
/// result.
fn legacy_in_place(r: &mut NodeReader) -> Read<()> {
    if r.opset < 6 {
        r.attributes.ints("consumed_inputs")?;
    }
    Ok(())
}
