//! Activation functions.

use milenas_models::graph::Value;
use milenas_models::op::{Activation, Zero};

use super::pointwise::legacy_in_place;
use super::{NodeReader, Read};

/// Emits an activation of the only input.
fn activation(r: &mut NodeReader, activation: Activation) -> Read<Value> {
    legacy_in_place(r)?;
    r.inputs(1)?;
    let x = r.wire(0)?;
    r.emit(activation, &[x], vec![])
}

pub(super) fn sigmoid(r: &mut NodeReader) -> Read<Value> {
    activation(r, Activation::Sigmoid)
}

pub(super) fn tanh(r: &mut NodeReader) -> Read<Value> {
    activation(r, Activation::Tanh)
}

pub(super) fn hard_swish(r: &mut NodeReader) -> Read<Value> {
    activation(r, Activation::HardSwish)
}

pub(super) fn hard_sigmoid(r: &mut NodeReader) -> Read<Value> {
    let (slope, offset) = (r.attributes.float("alpha", 0.2)?, r.attributes.float("beta", 0.5)?);
    activation(r, Activation::HardSigmoid { slope, offset })
}

pub(super) fn leaky_relu(r: &mut NodeReader) -> Read<Value> {
    let slope = r.attributes.float("alpha", 0.01)?;
    activation(r, Activation::LeakyRelu { slope })
}

/// Decodes `Clip`. Bounds of 0 and 0 stand for zeros of the shape of the input.
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
        [min, max] => r.emit(Activation::Clip { min, max }, &[x], vec![]),
    }
}
