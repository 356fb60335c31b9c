//! Elementwise operators, and operators that have no effect in inference.

use milenas_models::graph::Value;
use milenas_models::op::{Add, Identity, Mul, Relu, Softmax};

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
    let both = broadcast(r, "adds")?;
    r.emit(Add, &both, vec![])
}

pub(super) fn mul(r: &mut NodeReader) -> Read<Value> {
    let both = broadcast(r, "multiplies")?;
    r.emit(Mul, &both, vec![])
}

/// Returns the two wires of an elementwise operator. Before operator set 7 the second one is broadcast only on request.
fn broadcast(r: &mut NodeReader, verb: &str) -> Read<[Value; 2]> {
    r.inputs(2)?;
    let (a, b) = (r.wire(0)?, r.wire(1)?);
    if r.opset < 7 {
        let broadcast = r.attributes.int("broadcast", 0)?;
        let (rank_a, rank_b) = (r.fact(a).rank(), r.fact(b).rank());
        let suffix = rank_a as i64 - rank_b as i64;
        let from = r.attributes.int("axis", suffix)?;
        if broadcast == 0 && r.fact(a) != r.fact(b) {
            return Err(format!("it {verb} different shapes without `broadcast`"));
        }
        if from != suffix {
            return Err(format!("broadcast from axis {from}, this program has only the last axes"));
        }
    }
    legacy_in_place(r)?;
    Ok([a, b])
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

/// Accepts `consumed_inputs`, with which operators before set 6 could overwrite their input. It changes no
/// result.
pub(super) fn legacy_in_place(r: &mut NodeReader) -> Read<()> {
    if r.opset < 6 {
        r.attributes.ints("consumed_inputs")?;
    }
    Ok(())
}
