//! Scores from gradients at the start.

use milenas_models::Weights;
use milenas_models::fused::FusedNetwork;
use milenas_models::graph::{Graph, Patch};
use milenas_models::op::Op;
use nalgebra::DMatrix;

use crate::data::Batch;
use crate::{Error, Result};

/// Added to eigenvalues, as the authors do.
const SMALL: f64 = 1e-5;

/// Whether a parameter is a layer's weight, not a vector beside it.
fn is_weight(shape: &[usize]) -> bool {
    shape.len() >= 2
}

/// The norms of the weights' gradients on a batch, summed over convolutions and linear layers.
pub(super) fn grad_norm(network: &mut FusedNetwork, batch: &Batch) -> Result<f64> {
    network.train_step(&batch.numbers(), &batch.labels)?;
    let tensors = network.tensors();
    let norm = |name: &str| -> Result<f64> {
        Ok(tensors.gradient(name)?.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt())
    };
    tensors.named().iter().filter(|p| is_weight(&p.shape)).map(|p| norm(&p.name)).sum()
}

/// `-sum of ln(v + k) + 1 / (v + k)` over the eigenvalues `v` of the correlations between the images' Jacobians.
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

/// `ln of the sum of |w dR/dw|` over convolutions and linear layers, where `R` is the sum of the outputs for an image of ones, with
/// absolute weights and without BatchNorms; minus infinity where nothing flows.
///
/// `R` is a product over the depth that single precision does not hold. It is linear in the image, and its gradients are in that of
/// `R`: each has half of `1 / R`, as a power of two, for a factor.
pub(super) fn synflow(graph: &Graph, weights: &Weights) -> Result<f64> {
    let graph = without_norms(graph, weights)?;
    let mut network = fast(&graph)?;
    let inputs = graph.inputs().filter_map(|v| graph.fact(v).chw());
    let pixels = inputs.map(|(c, h, w)| c * h * w).sum();
    let tensors = network.tensors_mut();
    let shapes: Vec<_> = tensors.named().iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
    for (name, shape) in &shapes {
        let mut values = weights.require(name)?.flatten_all()?.to_vec1::<f32>()?;
        // The gradients of weights do not know a bias.
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

/// The power of two that is tried last for the image.
const LARGEST: i32 = 120;

fn power(exponent: i32) -> f32 {
    (f64::from(exponent)).exp2() as f32
}

/// The fast form of a graph.
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
