//! Lowers strided zeros to zeros of a subsampled image.
//!
//! ONNX has no operator for the primitive `none`. `Clip(x, 0, 0)` gives zeros of the shape of `x` for every
//! value and any batch size. A 1x1 max pooling applies the stride.

use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{Op, Padding, Pool2d, PoolKind, Zero};
use milenas_models::{Result, Weights};

use super::{Rewrite, node_name};

/// Rewrites `zero(x, stride s) -> zero(pool(x, 1x1, stride s))`.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
    for (value, node) in graph.values() {
        let Op::Zero(Zero { stride }) = node.op else { continue };
        if stride == 1 {
            continue;
        }
        let pool = Pool2d { padding: Padding::default(), ..Pool2d::new(PoolKind::Max, 1, stride) };
        let mut patch = Patch::new();
        let x = patch.tap(node.inputs[0]);
        let small = patch.wire(
            graph,
            &node_name(graph, &format!("{}.stride", node.name), &[]),
            pool,
            &[x],
            None,
        )?;
        let zero = patch.wire(graph, &node.name, Zero { stride: 1 }, &[small], None)?;
        patch.shunt(graph, value, zero)?;
        return Ok(Some(Rewrite { at: node.name.clone(), patch }));
    }
    Ok(None)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| b.wire("none", Zero { stride: 2 }, &[x]))
    }

    #[test]
    fn strided_zeros_let_go_of_what_they_read() {
        let graph = built(|b, x| {
            let conv = b.wire("conv", Conv2d::depthwise(4, 3, 1, 1), &[x])?;
            let zero = b.wire("none", Zero { stride: 2 }, &[conv])?;
            b.wire("conv2", Conv2d::depthwise(4, 3, 2, 1), &[zero])
        });
        let after = text(&[&DropNone], &graph);
        assert!(after.contains("conv2 = zero[stride 4](input)") && after.lines().count() == 3, "{after}");
        let lowered = text(&[&DropNone, &LowerNone], &graph);
        assert!(lowered.contains("conv2 = zero[stride 1](conv2.stride)"), "{lowered}");
    }
}
