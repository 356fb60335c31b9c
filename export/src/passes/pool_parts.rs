//! Moves the mean over the image before a concatenation, which then copies one value per channel.

use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{Concat, GlobalAvgPool, Op};
use milenas_models::{Result, Weights};

use super::{Pass, Reads, Rewrite, node_name};

/// Pass that pools before concatenations, see the module.
#[derive(Debug)]
pub struct PoolParts;

impl Pass for PoolParts {
    fn name(&self) -> &'static str {
        "pool_parts"
    }

    /// Rewrites `mean(concat(a, b)) -> concat(mean(a), mean(b))`, if nothing else reads the concatenation.
    fn next(&self, graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
        let reads = Reads::of(graph);
        for (value, pool) in graph.values() {
            let Op::GlobalAvgPool(_) = pool.op else { continue };
            let read = pool.inputs[0];
            let concat = graph.node(read);
            let Op::Concat(Concat { axis: 1 }) = concat.op else { continue };
            if !reads.once(read) {
                continue;
            }
            let mut patch = Patch::new();
            let mut parts = Vec::new();
            for (i, part) in concat.inputs.iter().enumerate() {
                let name = node_name(graph, &format!("{}.{i}", pool.name), &[pool]);
                let part = patch.tap(*part);
                parts.push(patch.wire(graph, &name, GlobalAvgPool, &[part], None)?);
            }
            let after = patch.wire(graph, &concat.name, concat.op.clone(), &parts, None)?;
            patch.shunt(graph, value, after)?;
            return Ok(Some(Rewrite { at: pool.name.clone(), patch }));
        }
        Ok(None)
    }
}
