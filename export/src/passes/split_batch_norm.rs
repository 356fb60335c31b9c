//! Splits the BatchNorm behind a factorised reduction, so that each half can be folded into its convolution.

use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{BatchNorm, Concat, Op};
use milenas_models::{Result, Weights};

use super::{Reads, Rewrite, node_name, param_name};

/// Rewrites `bn(concat(conv a, conv b)) -> concat(bn(conv a), bn(conv b))`, if nothing else reads the
/// parts.
pub(super) fn next(graph: &Graph, weights: &Weights) -> Result<Option<Rewrite>> {
    let reads = Reads::of(graph);
    for (value, bn) in graph.values() {
        let Op::BatchNorm(norm) = &bn.op else { continue };
        let joined = bn.inputs[0];
        let concat = graph.node(joined);
        let Op::Concat(Concat { axis: 1 }) = concat.op else { continue };
        let foldable = |v| reads.once(v) && matches!(graph.node(v).op, Op::Conv2d(_));
        if !reads.once(joined) || !concat.inputs.iter().all(|v| foldable(*v)) {
            continue;
        }
        let mut patch = Patch::new();
        let (mut parts, mut start) = (Vec::new(), 0);
        for (i, part) in concat.inputs.iter().enumerate() {
            let Some((channels, ..)) = graph.fact(*part).chw() else { return Ok(None) };
            let name = node_name(graph, &format!("{}.{i}", bn.name), &[bn, concat]);
            let mut params = Vec::new();
            for param in &bn.params {
                let whole = weights.get(&param.name);
                let Some(whole) = whole else { return Ok(None) };
                params.push(param_name(graph, &name, param.role, &[bn]));
                patch.weight(params[params.len() - 1].clone(), whole.narrow(0, start, channels)?);
            }
            let norm = BatchNorm { channels, ..norm.clone() };
            let part = patch.tap(*part);
            parts.push(patch.wire(graph, &name, norm, &[part], Some(params))?);
            start += channels;
        }
        let after = patch.wire(graph, &concat.name, concat.op.clone(), &parts, None)?;
        patch.shunt(graph, value, after)?;
        return Ok(Some(Rewrite { at: bn.name.clone(), patch }));
    }
    Ok(None)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| {
            let parts = ["a", "c"].map(|name| b.wire(name, Conv2d::pointwise(4, 3), &[x]));
            let [a, c] = parts;
            let both = b.wire("concat", Concat { axis: 1 }, &[a?, c?])?;
            b.wire("bn", BatchNorm::new(6, true), &[both])
        })
    }

    #[test]
    fn batch_norm_behind_a_factorized_reduction_folds_away() {
        let graph = example();
        assert_eq!(assert_sound(&[&SplitBatchNorm, &FoldBatchNorm], &graph, Tolerance::ROUNDING, true), 3);
        let after = text(&simplify(), &graph);
        assert!(!after.contains("batch_norm") && after.contains("concat = concat[axis 1](a, c)"), "{after}");
    }
}
