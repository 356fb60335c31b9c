//! Lowers strided zeros to zeros of a subsampled image.
//!
//! ONNX has no operator for the primitive `none`. `Clip(x, 0, 0)` gives zeros of the shape of `x` for every
//! value and any batch size. A 1x1 max pooling applies the stride.

use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{Op, Padding, Pool2d, PoolKind, Zero};
use milenas_models::{Result, Weights};

use super::{Pass, Rewrite, node_name};

/// Pass that lowers strided zeros, see the module.
#[derive(Debug)]
pub struct LowerNone;

impl Pass for LowerNone {
    fn name(&self) -> &'static str {
        "lower_none"
    }

    /// Rewrites `zero(x, stride s) -> zero(pool(x, 1x1, stride s))`.
    fn next(&self, graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
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
}
