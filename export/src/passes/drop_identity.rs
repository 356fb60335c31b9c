//! Removes operations that return their input unchanged.

use milenas_models::graph::{Graph, Node};
use milenas_models::op::{Op, Pool2d};
use milenas_models::{Result, Weights};

use super::{Rewrite, can_stand_for};

/// Returns the first rewrite.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
    for (value, node) in graph.values().filter(|(_, node)| gives_back(graph, node)) {
        if can_stand_for(graph, node.inputs[0], value) {
            return Rewrite::replace(graph, value, node.inputs[0]).map(Some);
        }
    }
    Ok(None)
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
        Op::Activation(_) | Op::Mul(_) | Op::ChannelShuffle(_) => false,
        Op::Linear(_) | Op::Add(_) | Op::Flatten(_) | Op::Softmax(_) | Op::Zero(_) | Op::FakeQuantize(_) => {
            false
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| {
            let x = b.wire("skip", Identity, &[x])?;
            let x = b.wire("alone", Concat { axis: 1 }, &[x])?;
            let x = b.wire("relu", Relu, &[x])?;
            b.wire("again", Relu, &[x])
        })
    }

    #[test]
    fn identities_go() {
        let graph = example();
        let after = text(&[&DropIdentity], &graph);
        assert_eq!(
            after,
            "input = input() -> [N, 4, 6, 6]\nrelu = relu(input) -> [N, 4, 6, 6]\noutput y = relu\n"
        );
    }
}
