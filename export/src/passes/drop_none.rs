//! Removes zeros (`none`) from sums, moves them through operations that keep zeros, and detaches them from
//! unneeded inputs.

use milenas_models::graph::{Graph, Node, Patch, Value};
use milenas_models::op::{Conv2d, Op, Pool2d, Zero};
use milenas_models::{Result, Weights};

use super::{Rewrite, can_stand_for};

/// Returns the first rewrite.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
    for (value, node) in graph.values() {
        let rewrite = match &node.op {
            Op::Add(_) => without_zero(graph, value, node)?,
            Op::Zero(zero) => further_up(graph, value, node, zero)?,
            Op::Relu(_) => still_zero(graph, value, node, [1, 1])?,
            Op::Conv2d(Conv2d { stride, bias: false, .. }) | Op::Pool2d(Pool2d { stride, .. }) => {
                still_zero(graph, value, node, *stride)?
            }
            Op::Input(_) | Op::Conv2d(_) | Op::BatchNorm(_) | Op::GlobalAvgPool(_) | Op::Linear(_) => {
                None
            }
            Op::Concat(_) | Op::Slice(_) | Op::Flatten(_) | Op::Softmax(_) => None,
            Op::Activation(_) | Op::Mul(_) | Op::ChannelShuffle(_) => None,
            Op::Identity(_) | Op::FakeQuantize(_) => None,
        };
        if rewrite.is_some() {
            return Ok(rewrite);
        }
    }
    Ok(None)
}

/// Rewrites `x + 0 -> x` if `x` has the shape of the sum.
fn without_zero(graph: &Graph, value: Value, node: &Node) -> Result<Option<Rewrite>> {
    let [a, b] = node.inputs[..] else { return Ok(None) };
    let other = [(a, b), (b, a)].into_iter().find(|(zero, x)| {
        matches!(graph.node(*zero).op, Op::Zero(_))
            && graph.fact(*x) == &node.fact
            && can_stand_for(graph, *x, value)
    });
    other.map(|(_, x)| Rewrite::replace(graph, value, x)).transpose()
}

/// Rewrites `zero(f(x)) -> zero(x)` if `f` keeps the shape: zeros depend only on the shape of their input.
fn further_up(graph: &Graph, value: Value, node: &Node, zero: &Zero) -> Result<Option<Rewrite>> {
    let read = node.inputs[0];
    let Some(x) = graph.node(read).inputs.iter().find(|x| graph.fact(**x) == graph.fact(read)) else {
        return Ok(None);
    };
    zero_at(graph, value, node, zero.clone(), *x).map(Some)
}

/// Rewrites `f(zero(x)) -> zero(x)` if `f` maps zeros to zeros.
fn still_zero(graph: &Graph, value: Value, node: &Node, stride: [usize; 2]) -> Result<Option<Rewrite>> {
    let before = graph.node(node.inputs[0]);
    let Op::Zero(Zero { stride: inner }) = &before.op else { return Ok(None) };
    let x = before.inputs[0];
    let Some(stride) = (stride[0] == stride[1]).then(|| inner.checked_mul(stride[0])).flatten() else {
        return Ok(None);
    };
    let zero = Zero { stride };
    match Op::Zero(zero.clone()).output(&[graph.fact(x)]) {
        Ok(fact) if fact == node.fact => zero_at(graph, value, node, zero, x).map(Some),
        _ => Ok(None),
    }
}

fn zero_at(graph: &Graph, value: Value, node: &Node, zero: Zero, x: Value) -> Result<Rewrite> {
    let mut patch = Patch::new();
    let x = patch.tap(x);
    let zero = patch.wire(graph, &node.name, zero, &[x], None)?;
    patch.shunt(graph, value, zero)?;
    Ok(Rewrite { at: node.name.clone(), patch })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| {
            let conv = b.wire("conv", Conv2d::depthwise(4, 3, 1, 1), &[x])?;
            let zero = b.wire("none", Zero { stride: 1 }, &[conv])?;
            let still = b.wire("relu", Relu, &[zero])?;
            let still = b.wire("pool", Pool2d::new(PoolKind::Max, 3, 1), &[still])?;
            b.wire("sum", Add, &[still, conv])
        })
    }

    #[test]
    fn zeros_leave_sums() {
        let graph = example();
        let after = text(&[&DropNone], &graph);
        assert!(after.ends_with("output y = conv\n") && after.lines().count() == 3, "{after}");
    }
}
