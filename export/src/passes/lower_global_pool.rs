//! Lowers the mean over the image to average pooling with one window, for readers without
//! `GlobalAveragePool`.

use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{Op, Padding, Pool2d, PoolKind};
use milenas_models::{Result, Weights};

use super::{Pass, Rewrite};

/// Pass that lowers `GlobalAvgPool`, see the module.
#[derive(Debug)]
pub struct LowerGlobalPool;

impl Pass for LowerGlobalPool {
    fn name(&self) -> &'static str {
        "lower_global_pool"
    }

    /// Rewrites `mean(x [N, C, H, W]) -> pool(x, HxW)`.
    fn next(&self, graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
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
}
