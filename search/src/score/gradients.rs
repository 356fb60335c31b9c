//! Scores from the gradients of an untrained network.

use milenas_models::Weights;
use milenas_models::fused::FusedNetwork;
use milenas_models::graph::{Graph, Patch};
use milenas_models::op::Op;
use nalgebra::DMatrix;

use crate::data::Batch;
use crate::{Error, Result};

/// Constant added to eigenvalues, as in the authors' code.
const SMALL: f64 = 1e-5;

/// Returns whether a parameter is a weight of a convolution or linear layer, by its shape.
fn is_weight(shape: &[usize]) -> bool {
    shape.len() >= 2
}

/// Returns the sum over convolutions and linear layers of the norms of the weights' gradients on a batch.
pub(super) fn grad_norm(network: &mut FusedNetwork, batch: &Batch) -> Result<f64> {
    network.train_step(&batch.numbers(), &batch.labels)?;
    let tensors = network.tensors();
    let norm = |name: &str| -> Result<f64> {
        Ok(tensors.gradient(name)?.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt())
    };
    tensors.named().iter().filter(|p| is_weight(&p.shape)).map(|p| norm(&p.name)).sum()
}

/// Returns `-sum of ln(v + k) + 1 / (v + k)` over the eigenvalues `v` of the correlation matrix of the images'
/// Jacobians.
pub(super) fn jacob_cov(network: &mut FusedNetwork, batch: &Batch) -> Result<f64> {
    let rows = network.jacobian(&batch.numbers())?;
    let n = batch.len();
    let mut jacobian = DMatrix::from_row_slice(n, rows.len() / n, &rows).map(f64::from);
    for mut row in jacobian.row_iter_mut() {
        let mean = row.mean();
        row.add_scalar_mut(-mean);
        let norm = row.norm();
        if norm == 0.0 {
            return Ok(f64::NEG_INFINITY);
        }
        row /= norm;
    }
    let eigenvalues = (&jacobian * jacobian.transpose()).symmetric_eigenvalues();
    Ok(-eigenvalues.iter().map(|v| (v.max(0.0) + SMALL).ln() + 1.0 / (v.max(0.0) + SMALL)).sum::<f64>())
}

/// Returns `ln of the sum of |w dR/dw|` over convolutions and linear layers. `R` is the sum of the outputs for
/// an image of ones, with absolute weights and without BatchNorms. The result is minus infinity if the network
/// passes no signal.
///
/// `R` is a product over the depth that overflows single precision. It is linear in the image and in the
/// gradient of the outputs. Each of the two is therefore scaled by a power of two near the square root of `1 /
/// R`.
pub(super) fn synflow(graph: &Graph, weights: &Weights) -> Result<f64> {
    let graph = without_norms(graph, weights)?;
    let mut network = fast(&graph)?;
    let inputs = graph.inputs().filter_map(|v| graph.fact(v).chw());
    let pixels = inputs.map(|(c, h, w)| c * h * w).sum();
    let tensors = network.tensors_mut();
    let shapes: Vec<_> = tensors.named().iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
    for (name, shape) in &shapes {
        let mut values = weights.require(name)?.flatten_all()?.to_vec1::<f32>()?;
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

/// Largest exponent of two by which the image is scaled down.
const LARGEST: i32 = 120;

fn power(exponent: i32) -> f32 {
    (f64::from(exponent)).exp2() as f32
}

/// Compiles a graph for the CPU engine.
pub(super) fn fast(graph: &Graph) -> Result<FusedNetwork> {
    FusedNetwork::new(graph).map_err(|problem| Error::Data {
        problem: format!(
            "it cannot be scored: {problem}. Help: give cells of the darts or nasbench201 space"
        ),
    })
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
