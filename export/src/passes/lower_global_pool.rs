//! Lowers the mean over the image to average pooling with one window, for readers without
//! `GlobalAveragePool`.

use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{Op, Padding, Pool2d, PoolKind};
use milenas_models::{Result, Weights};

use super::Rewrite;

/// Rewrites `mean(x [N, C, H, W]) -> pool(x, HxW)`.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
    for (value, node) in graph.values() {
        let Op::GlobalAvgPool(_) = node.op else { continue };
        let Some((_, height, width)) = graph.fact(node.inputs[0]).chw() else { continue };
        let kind = PoolKind::Average { count_padding: false };
        let pool =
            Pool2d { padding: Padding::default(), kernel: [height, width], ..Pool2d::new(kind, 1, 1) };
        let mut patch = Patch::new();
        let x = patch.tap(node.inputs[0]);
        let pooled = patch.wire(graph, &node.name, pool, &[x], None)?;
        patch.shunt(graph, value, pooled)?;
        return Ok(Some(Rewrite { at: node.name.clone(), patch }));
    }
    Ok(None)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| b.wire("mean", GlobalAvgPool, &[x]))
    }
}
