//! Merges nodes that compute the same value, e.g. the ReLUs at the start of all edges from one node of a
//! cell.

use std::collections::HashMap;

use milenas_models::graph::{Graph, Value};
use milenas_models::op::Op;
use milenas_models::{Result, Weights};

use super::{Rewrite, can_stand_for};

/// Rewrites `f(x), f(x) -> f(x)` for equal operations, inputs and parameters.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
    let mut seen: HashMap<(Vec<Value>, Vec<&str>), Vec<Value>> = HashMap::new();
    for (value, node) in graph.values().filter(|(_, node)| !matches!(node.op, Op::Input(_))) {
        let mut inputs = node.inputs.clone();
        if let Op::Add(_) = node.op {
            inputs.sort(); // a + b and b + a are the same to the last bit
        }
        let params = node.params.iter().map(|p| p.name.as_str()).collect();
        let alike = seen.entry((inputs, params)).or_default();
        let first =
            alike.iter().find(|v| graph.node(**v).op == node.op && can_stand_for(graph, **v, value));
        if let Some(first) = first {
            return Rewrite::replace(graph, value, *first).map(Some);
        }
        alike.push(value);
    }
    Ok(None)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| {
            let [a, c] = ["a", "c"].map(|name| b.wire(name, Relu, &[x]));
            let (a, c) = (a?, c?);
            let left = b.wire("left", Add, &[a, x])?;
            let right = b.wire("right", Add, &[x, c])?;
            b.wire("both", Concat { axis: 1 }, &[left, right])
        })
    }

    #[test]
    fn equal_nodes_become_one() {
        let graph = example();
        let after = text(&[&MergeEqual], &graph);
        assert!(after.contains("both = concat[axis 1](left, left)"), "{after}");
    }
}
