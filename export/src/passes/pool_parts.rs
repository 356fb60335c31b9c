//! Moves the mean over the image before a concatenation, which then copies one value per channel.

use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{Concat, GlobalAvgPool, Op};
use milenas_models::{Result, Weights};

use super::{Reads, Rewrite, node_name};

/// Rewrites `mean(concat(a, b)) -> concat(mean(a), mean(b))`, if nothing else reads the concatenation.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
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

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| {
            let relu = b.wire("relu", Relu, &[x])?;
            let both = b.wire("both", Concat { axis: 1 }, &[relu, x])?;
            b.wire("mean", GlobalAvgPool, &[both])
        })
    }

    #[test]
    fn the_mean_goes_before_the_row() {
        let graph = example();
        let after = text(&[&PoolParts], &graph);
        assert!(after.contains("both = concat[axis 1](mean.0, mean.1) -> [N, 8, 1, 1]"), "{after}");
        let lowered = text(&[&PoolParts, &LowerGlobalPool], &graph);
        assert!(!lowered.contains("global_avg_pool") && lowered.contains("kernel [6, 6]"), "{lowered}");
    }
}
