//! Synaptic flow (Tanaka et al., NeurIPS 2020; as Abdelfattah et al., ICLR 2021): `ln of the sum of |w dR/dw|` over
//! convolutions and linear layers. `R` is the sum of the outputs for an image of ones, with absolute weights and without
//! BatchNorms. The score is minus infinity if the network passes no signal.
//!
//! `R` is a product over the depth that overflows single precision. It is linear in the image and in the gradient of the
//! outputs. Each of the two is therefore scaled by a power of two near the square root of `1 / R`.

use milenas_models::Weights;
use milenas_models::graph::{Graph, Patch};
use milenas_models::op::Op;

use super::{Score, Subject, compiled, is_weight};
use crate::Result;

/// Largest exponent of two by which the image is scaled down.
const LARGEST: i32 = 120;

/// The score `synflow`.
#[derive(Debug)]
pub struct Synflow;

impl Score for Synflow {
    fn name(&self) -> &'static str {
        "synflow"
    }

    fn doc(&self) -> &'static str {
        "logarithm of the synaptic flow through all weights (Tanaka et al., NeurIPS 2020)"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        let graph = without_norms(subject.graph, subject.weights)?;
        let mut network = compiled(&graph)?;
        let inputs = graph.inputs().filter_map(|v| graph.fact(v).chw());
        let pixels = inputs.map(|(c, h, w)| c * h * w).sum();
        let tensors = network.tensors_mut();
        let shapes: Vec<_> = tensors.named().iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
        for (name, shape) in &shapes {
            let mut values = subject.weights.require(name)?.flatten_all()?.to_vec1::<f32>()?;
            // The score includes no biases, so they are set to zero.
            values.iter_mut().for_each(|x| *x = if is_weight(shape) { x.abs() } else { 0.0 });
            tensors.set(name, &values)?;
        }
        let mut exponent = 0;
        let sum = loop {
            let sum = network.backward_logit_sum(&vec![power(-exponent); pixels], 1.0)?;
            if sum.is_finite() || exponent == LARGEST {
                break sum;
            }
            exponent += LARGEST / 2;
        };
        if sum == 0.0 {
            return Ok(f64::NEG_INFINITY);
        }
        let half = ((sum.log2() + f64::from(exponent)) / 2.0).round() as i32;
        network.backward_logit_sum(&vec![power(-half); pixels], power(-half))?;
        let tensors = network.tensors();
        let mut total = 0.0;
        for (name, _) in shapes.iter().filter(|(_, shape)| is_weight(shape)) {
            let pairs = tensors.get(name)?.into_iter().zip(tensors.gradient(name)?);
            total += pairs.map(|(w, g)| (f64::from(w) * f64::from(g)).abs()).sum::<f64>();
        }
        Ok(total.ln() + f64::from(2 * half) * core::f64::consts::LN_2)
    }
}

fn power(exponent: i32) -> f32 {
    (f64::from(exponent)).exp2() as f32
}

fn without_norms(graph: &Graph, weights: &Weights) -> Result<Graph> {
    let mut patch = Patch::new();
    for (value, node) in graph.values().filter(|(_, node)| matches!(node.op, Op::BatchNorm(_))) {
        let before = patch.tap(node.inputs[0]);
        patch.shunt(graph, value, before)?;
    }
    let mut graph = graph.clone();
    patch.apply(&mut graph, &mut weights.clone())?;
    Ok(graph)
}
