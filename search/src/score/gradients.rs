//! Scores from gradients at the start.

use candle_core::{DType, Device, Tensor};
use milenas_models::fused::Network;
use milenas_models::graph::{Graph, Patch};
use milenas_models::kernels::Form;
use milenas_models::op::Op;
use milenas_models::{Executor, Mode, Weights};
use nalgebra::DMatrix;

use crate::Result;
use crate::data::Batch;

/// Added to eigenvalues, as the authors do.
const SMALL: f64 = 1e-5;

/// Whether a parameter is a layer's weight, not a vector beside it.
fn is_weight(shape: &[usize]) -> bool {
    shape.len() >= 2
}

/// The norms of the weights' gradients on a batch, summed over convolutions and linear layers.
pub(super) fn grad_norm(network: &mut Network, batch: &Batch) -> Result<f64> {
    network.descend(&batch.images, &batch.labels)?;
    let tensors = network.tensors();
    let norm = |name: &str| -> Result<f64> {
        Ok(tensors.gradient(name)?.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt())
    };
    tensors.named().iter().filter(|p| is_weight(&p.shape)).map(|p| norm(&p.name)).sum()
}

/// `-sum of ln(v + k) + 1 / (v + k)` over the eigenvalues `v` of the correlations between the images' Jacobians.
pub(super) fn jacob_cov(network: &mut Network, batch: &Batch) -> Result<f64> {
    let rows = network.jacobian(&batch.images)?;
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
/// absolute weights and without BatchNorms. In double precision: `R` is a product over the depth.
pub(super) fn synflow(graph: &Graph, weights: &Weights) -> Result<f64> {
    let graph = without_norms(graph, weights)?;
    let mut absolute = Weights::default();
    for param in graph.params() {
        let value = weights.require(&param.name)?.to_dtype(DType::F64)?.abs()?;
        absolute.insert(&param.name, value)?;
    }
    let dims: Option<Vec<(usize, usize, usize)>> = graph.inputs().map(|v| graph.fact(v).chw()).collect();
    let inputs = dims
        .unwrap_or_default()
        .into_iter()
        .map(|(c, h, w)| Tensor::ones((1, c, h, w), DType::F64, &Device::Cpu));
    let inputs = inputs.collect::<candle_core::Result<Vec<_>>>()?;
    let flow = Executor::new(&graph, &absolute).with_form(Form::Slow).run(&inputs, Mode::Train)?.remove(0);
    let gradients = flow.sum_all()?.backward()?;
    let mut total = 0.0;
    for (_, var) in absolute.iter().filter(|(_, var)| is_weight(var.dims())) {
        if let Some(gradient) = gradients.get(var) {
            total += (var.as_tensor() * gradient)?.abs()?.sum_all()?.to_scalar::<f64>()?;
        }
    }
    Ok(total.ln())
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
