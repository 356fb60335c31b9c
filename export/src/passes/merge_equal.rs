//! Merges nodes that compute the same value, e.g. the ReLUs at the start of all edges from one node of a
//! cell.

use std::collections::HashMap;

use milenas_models::graph::{Graph, Value};
use milenas_models::op::Op;
use milenas_models::{Result, Weights};

use super::{Pass, Rewrite, can_stand_for};

/// Pass that merges equal nodes, see the module.
#[derive(Debug)]
pub struct MergeEqual;

impl Pass for MergeEqual {
    fn name(&self) -> &'static str {
        "merge_equal"
    }

    /// Rewrites `f(x), f(x) -> f(x)` for equal operations, inputs and parameters.
    fn next(&self, graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
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
}
