//! Moves a ReLU behind a concatenation to each of its parts. The producer of a part can then absorb the ReLU.
//! An edge of the same cell that reads the part after a ReLU can share it.

use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{Concat, Op, Relu};
use milenas_models::{Result, Weights};

use super::{Rewrite, node_name};

/// Rewrites `relu(concat(a, b)) -> concat(relu(a), relu(b))`, if only ReLUs read the concatenation.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
    for (value, concat) in graph.values() {
        let Op::Concat(Concat { .. }) = concat.op else { continue };
        let readers = graph.consumers(value);
        let all = readers.iter().all(|v| matches!(graph.node(*v).op, Op::Relu(_)));
        let (Some(relu), true, false) = (readers.first(), all, graph.is_output(value)) else { continue };
        let relu = graph.node(*relu);
        let mut patch = Patch::new();
        let mut parts = Vec::new();
        for (i, part) in concat.inputs.iter().enumerate() {
            let name = node_name(graph, &format!("{}.{i}", relu.name), &[]);
            let part = patch.tap(*part);
            parts.push(patch.wire(graph, &name, Relu, &[part], None)?);
        }
        let after = patch.wire(graph, &concat.name, concat.op.clone(), &parts, None)?;
        for reader in readers {
            patch.shunt(graph, reader, after)?;
        }
        return Ok(Some(Rewrite { at: concat.name.clone(), patch }));
    }
    Ok(None)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| {
            let both = row(b, x)?;
            let [a, c] = ["a", "c"].map(|name| b.wire(name, Relu, &[both]));
            b.wire("sum", Add, &[a?, c?])
        })
    }

    fn row(b: &mut Builder, x: Value) -> Checked<Value> {
        let y = b.wire("y", Conv2d::pointwise(4, 4), &[x])?;
        b.wire("both", Concat { axis: 1 }, &[x, y])
    }

    #[test]
    fn relu_moves_into_a_concatenation_that_only_relu_reads() {
        let after = text(&[&PushReluIntoConcat], &example());
        assert!(
            after.contains("both = concat[axis 1](a.0, a.1)") && after.contains("add(both, both)"),
            "{after}"
        );
        let graph = built(|b, x| {
            let both = row(b, x)?;
            let relu = b.wire("relu", Relu, &[both])?;
            b.wire("sum", Add, &[relu, both])
        });
        assert!(PushReluIntoConcat.next(&graph, &weights(&graph, 1)).unwrap().is_none());
    }
}
