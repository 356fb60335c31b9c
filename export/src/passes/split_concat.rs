//! Replaces a convolution over a concatenation by a sum of convolutions over its parts, so that nothing is
//! copied.
//!
//! The output of a cell is such a concatenation. The next two cells read it through a ReLU and a 1x1
//! convolution.

use candle_core::Tensor;
use milenas_models::graph::{Graph, Node, Patch, Value};
use milenas_models::op::{Add, Concat, Conv2d, Op, ParamRole, Relu};
use milenas_models::{Result, Weights};

use super::{Rewrite, node_name, param_name, tensor};

/// Convolution that reads a concatenation, directly or through a ReLU.
struct ConcatReader {
    conv: Value,
    relu: Option<Value>,
}

/// Rewrites `conv(concat(a, b), [u v]) -> conv(a, u) + conv(b, v)`, also with a ReLU before the
/// convolution. Nothing else may read the concatenation.
pub(super) fn next(graph: &Graph, weights: &Weights) -> Result<Option<Rewrite>> {
    for (value, node) in graph.values() {
        let Op::Concat(Concat { axis: 1 }) = node.op else { continue };
        let channels = node.inputs.iter().map(|v| graph.fact(*v).chw().map(|(c, ..)| c));
        let (Some(readers), Some(channels)) =
            (readers(graph, value), channels.collect::<Option<Vec<_>>>())
        else {
            continue;
        };
        let mut patch = Patch::new();
        for ConcatReader { conv, relu } in readers {
            split(&mut patch, graph, weights, node, &channels, conv, relu)?;
        }
        return Ok(Some(Rewrite { at: node.name.clone(), patch }));
    }
    Ok(None)
}

/// Returns the convolutions that read a concatenation directly or through a ReLU; `None` if it has other
/// readers.
fn readers(graph: &Graph, concat: Value) -> Option<Vec<ConcatReader>> {
    let suits = |v: Value| matches!(graph.node(v).op, Op::Conv2d(Conv2d { groups: 1, .. }));
    let mut readers = Vec::new();
    if graph.is_output(concat) {
        return None;
    }
    for reader in graph.consumers(concat) {
        let relu = matches!(graph.node(reader).op, Op::Relu(_)).then_some(reader);
        let convs = match relu {
            Some(relu) if graph.is_output(relu) => return None,
            Some(relu) => graph.consumers(relu),
            None => vec![reader],
        };
        if !convs.iter().all(|conv| suits(*conv)) {
            return None;
        }
        readers.extend(convs.into_iter().map(|conv| ConcatReader { conv, relu }));
    }
    (!readers.is_empty()).then_some(readers)
}

/// Splits one convolution. If several convolutions read a part, `merge_equal` merges the equal ReLUs of that
/// part.
fn split(
    patch: &mut Patch,
    graph: &Graph,
    weights: &Weights,
    concat: &Node,
    channels: &[usize],
    conv: Value,
    relu: Option<Value>,
) -> Result<()> {
    let node = graph.node(conv);
    let Op::Conv2d(payload) = &node.op else { return Ok(()) };
    let whole: &Tensor = tensor(weights, node, ParamRole::Weight)?;
    let last = channels.len() - 1;
    let (mut sum, mut start) = (None, 0);
    for (i, (part, &in_channels)) in concat.inputs.iter().zip(channels).enumerate() {
        let named = |what: &str| node_name(graph, &format!("{}.{what}{i}", node.name), &[node]);
        let mut x = patch.tap(*part);
        if relu.is_some() {
            x = patch.wire(graph, &named("relu"), Relu, &[x], None)?;
        }
        let name = if last == 0 { node.name.clone() } else { named("") };
        // Only the first convolution adds the bias.
        let payload = Conv2d { in_channels, bias: payload.bias && i == 0, ..payload.clone() };
        let mut params = vec![param_name(graph, &name, ParamRole::Weight, &[node])];
        patch.weight(params[0].clone(), whole.narrow(1, start, in_channels)?);
        if payload.bias {
            params.push(param_name(graph, &name, ParamRole::Bias, &[node]));
            patch.weight(params[1].clone(), tensor(weights, node, ParamRole::Bias)?.clone());
        }
        let y = patch.wire(graph, &name, payload, &[x], Some(params))?;
        let name = if i == last { node.name.clone() } else { named("sum") };
        sum = Some(match sum {
            None => y,
            Some(before) => patch.wire(graph, &name, Add, &[before, y], None)?,
        });
        start += in_channels;
    }
    sum.map_or(Ok(()), |sum| patch.shunt(graph, conv, sum))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| {
            let [a, c] = ["a", "c"].map(|name| b.wire(name, Conv2d::depthwise(4, 3, 1, 1), &[x]));
            let both = b.wire("both", Concat { axis: 1 }, &[a?, c?, x])?;
            let relu = b.wire("relu", Relu, &[both])?;
            let first = b.wire("first", Conv2d::pointwise(12, 3).bias(true), &[relu])?;
            let second = b.wire("second", Conv2d::new(12, 3, 3).padding(Padding::all(1)), &[relu])?;
            let third = b.wire("third", Conv2d::pointwise(12, 3), &[both])?;
            let sum = b.wire("sum", Add, &[first, second])?;
            b.wire("all", Add, &[sum, third])
        })
    }

    #[test]
    fn a_convolution_over_a_row_of_images_becomes_a_sum() {
        let graph = example();
        assert_eq!(assert_sound(&[&SplitConcat], &graph, Tolerance::ROUNDING, true), 1);
        let after = text(&[&SplitConcat, &MergeEqual], &graph);
        assert!(!after.contains("concat") && after.matches(" = relu(").count() == 3, "{after}");
        assert_eq!(after.matches("bias true").count(), 1, "{after}");
    }

    #[test]
    fn a_row_of_images_that_something_else_reads_stays() {
        let graph = built(|b, x| {
            let both = b.wire("both", Concat { axis: 1 }, &[x, x])?;
            let conv = b.wire("conv", Conv2d::pointwise(8, 8), &[both])?;
            b.wire("sum", Add, &[conv, both])
        });
        assert_eq!(assert_sound(&[&SplitConcat], &graph, Tolerance::EXACT, true), 0);
    }
}
