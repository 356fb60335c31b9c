//! Removes operations that return their input unchanged.

use milenas_models::graph::{Graph, Node};
use milenas_models::op::{Op, Pool2d};
use milenas_models::{Result, Weights};

use super::{Pass, Rewrite, can_stand_for};

/// Pass that removes operations without effect, see the module.
#[derive(Debug)]
pub struct DropIdentity;

impl Pass for DropIdentity {
    fn name(&self) -> &'static str {
        "drop_identity"
    }

    fn next(&self, graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
        for (value, node) in graph.values().filter(|(_, node)| gives_back(graph, node)) {
            if can_stand_for(graph, node.inputs[0], value) {
                return Rewrite::replace(graph, value, node.inputs[0]).map(Some);
            }
        }
        Ok(None)
    }
}

/// Returns whether the node returns its input: `identity(x) -> x`, `concat(x) -> x`, `slice(x, everything) ->
/// x`, `pool(x, 1x1) -> x`, `relu(relu(x)) -> relu(x)`.
fn gives_back(graph: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::Identity(_) => true,
        Op::Concat(_) => node.inputs.len() == 1,
        Op::Slice(_) => graph.fact(node.inputs[0]) == &node.fact,
        Op::Pool2d(Pool2d { kernel: [1, 1], stride: [1, 1], .. }) => graph.fact(node.inputs[0]) == &node.fact,
        Op::Relu(_) => matches!(graph.node(node.inputs[0]).op, Op::Relu(_)),
        Op::Input(_) | Op::Conv2d(_) | Op::BatchNorm(_) | Op::Pool2d(_) | Op::GlobalAvgPool(_) => false,
        Op::Linear(_) | Op::Add(_) | Op::Flatten(_) | Op::Softmax(_) | Op::Zero(_) | Op::FakeQuantize(_) => {
            false
        }
    }
}
