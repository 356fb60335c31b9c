//! Adds a weight of ones and a bias of zeros to a BatchNorm that has neither, because ONNX requires both.

use candle_core::{DType, Device, Tensor};
use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{BatchNorm, Op, ParamRole};
use milenas_models::{Result, Weights};

use super::{Rewrite, param_name};

/// Rewrites `bn(x) -> bn(x) * 1 + 0`.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
    for (value, node) in graph.values() {
        let Op::BatchNorm(norm @ BatchNorm { affine: false, channels, .. }) = &node.op else { continue };
        let names =
            [ParamRole::Weight, ParamRole::Bias].map(|role| param_name(graph, &node.name, role, &[]));
        let mut patch = Patch::new();
        patch.weight(names[0].clone(), Tensor::ones(*channels, DType::F32, &Device::Cpu)?);
        patch.weight(names[1].clone(), Tensor::zeros(*channels, DType::F32, &Device::Cpu)?);
        let running = node.params.iter().map(|p| p.name.clone());
        let params = names.into_iter().chain(running).collect();
        let x = patch.tap(node.inputs[0]);
        let affine = BatchNorm { affine: true, ..norm.clone() };
        let affine = patch.wire(graph, &node.name, affine, &[x], Some(params))?;
        patch.shunt(graph, value, affine)?;
        return Ok(Some(Rewrite { at: node.name.clone(), patch }));
    }
    Ok(None)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| b.wire("bn", BatchNorm::new(4, false), &[x]))
    }
}
