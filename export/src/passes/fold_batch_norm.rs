//! Folds a BatchNorm into the convolution before it. In evaluation a BatchNorm is a scale and a shift per
//! channel.

use candle_core::{Device, Tensor};
use milenas_models::graph::{Graph, Node, Patch};
use milenas_models::op::{BatchNorm, Op, ParamRole};
use milenas_models::{Result, Weights};

use super::{Pass, Reads, Rewrite, numbers, param_name};

/// Pass that folds BatchNorms into convolutions, see the module.
#[derive(Debug)]
pub struct FoldBatchNorm;

impl Pass for FoldBatchNorm {
    fn name(&self) -> &'static str {
        "fold_batch_norm"
    }

    /// Rewrites `bn(conv(x, w) + b) -> conv(x, w*s) + (b - mean)*s + beta` with `s = gamma / sqrt(var +
    /// eps)`, if nothing else reads the convolution.
    fn next(&self, graph: &Graph, weights: &Weights) -> Result<Option<Rewrite>> {
        let reads = Reads::of(graph);
        for (value, bn) in graph.values() {
            let Op::BatchNorm(norm) = &bn.op else { continue };
            let read = bn.inputs[0];
            let conv = graph.node(read);
            let Op::Conv2d(payload) = &conv.op else { continue };
            if !reads.once(read) {
                continue;
            }
            let affine = affine(weights, bn, norm)?;
            let mut weight = numbers(weights, conv, ParamRole::Weight)?;
            let of_channel = weight.len() / affine.len();
            for (weight, (scale, _)) in weight.chunks_exact_mut(of_channel).zip(&affine) {
                weight.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
            }
            let bias = match payload.bias {
                true => numbers(weights, conv, ParamRole::Bias)?,
                false => vec![0.0; affine.len()],
            };
            let bias =
                bias.iter().zip(&affine).map(|(b, (scale, shift))| (f64::from(*b) * scale + shift) as f32);
            let bias: Vec<f32> = bias.collect();

            let mut patch = Patch::new();
            let payload = payload.clone().bias(true);
            let names = [ParamRole::Weight, ParamRole::Bias]
                .map(|role| param_name(graph, &conv.name, role, &[conv, bn]));
            let shape = conv.params[0].shape.as_slice();
            patch.weight(names[0].clone(), Tensor::from_vec(weight, shape, &Device::Cpu)?);
            patch.weight(names[1].clone(), Tensor::from_vec(bias, affine.len(), &Device::Cpu)?);
            let x = patch.tap(conv.inputs[0]);
            let folded = patch.wire(graph, &conv.name, payload, &[x], Some(names.to_vec()))?;
            patch.shunt(graph, value, folded)?;
            return Ok(Some(Rewrite { at: bn.name.clone(), patch }));
        }
        Ok(None)
    }
}

/// Returns scale and shift of each channel.
fn affine(weights: &Weights, node: &Node, norm: &BatchNorm) -> Result<Vec<(f64, f64)>> {
    let (gamma, beta) = match norm.affine {
        true => (numbers(weights, node, ParamRole::Weight)?, numbers(weights, node, ParamRole::Bias)?),
        false => (vec![1.0; norm.channels], vec![0.0; norm.channels]),
    };
    let (mean, var) =
        (numbers(weights, node, ParamRole::RunningMean)?, numbers(weights, node, ParamRole::RunningVar)?);
    let channel = |c: usize| {
        let scale = f64::from(gamma[c]) / (f64::from(var[c]) + norm.eps).sqrt();
        (scale, f64::from(beta[c]) - f64::from(mean[c]) * scale)
    };
    Ok((0..norm.channels).map(channel).collect())
}
