//! Folds a BatchNorm into the convolution before it. In evaluation a BatchNorm is a scale and a shift per
//! channel.

use candle_core::{Device, Tensor};
use milenas_models::graph::{Graph, Node, Patch};
use milenas_models::op::{BatchNorm, Op, ParamRole};
use milenas_models::{Result, Weights};

use super::{Reads, Rewrite, numbers, param_name};

/// Rewrites `bn(conv(x, w) + b) -> conv(x, w*s) + (b - mean)*s + beta` with `s = gamma / sqrt(var +
/// eps)`, if nothing else reads the convolution.
pub(super) fn next(graph: &Graph, weights: &Weights) -> Result<Option<Rewrite>> {
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

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| {
            let conv = b.wire("conv", Conv2d::pointwise(4, 4), &[x])?;
            b.wire("bn", BatchNorm::new(4, true), &[conv])
        })
    }

    #[test]
    fn a_convolution_with_another_reader_keeps_its_numbers() {
        let graph = built(|b, x| {
            let conv = b.wire("conv", Conv2d::pointwise(4, 4), &[x])?;
            let bn = b.wire("bn", BatchNorm::new(4, true), &[conv])?;
            b.wire("sum", Add, &[bn, conv])
        });
        assert_eq!(assert_sound(&simplify(), &graph, Tolerance::EXACT, true), 0);
    }

    #[test]
    fn numbers_that_another_convolution_reads_stay_as_they_are() {
        let graph = built(|b, x| {
            let shared = || Some(vec!["first.weight".to_string()]);
            let first = b.wire_with("first", Conv2d::pointwise(4, 4), &[x], shared())?;
            let bn = b.wire("bn", BatchNorm::new(4, true), &[first])?;
            b.wire_with("second", Conv2d::pointwise(4, 4), &[bn], shared())
        });
        let (mut after, mut new) = (graph.clone(), weights(&graph, 1));
        let before = numbers(&new, &graph.nodes()[1], ParamRole::Weight).unwrap();
        assert_eq!(run(&simplify(), &mut after, &mut new, usize::MAX, &mut |_| {}).unwrap(), 1);
        assert_eq!(after.nodes()[1].param(ParamRole::Weight), Some("first.weight_"));
        assert_eq!(before, numbers(&new, &graph.nodes()[1], ParamRole::Weight).unwrap());
    }
}
