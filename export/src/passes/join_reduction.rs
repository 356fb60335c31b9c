//! Joins the two convolutions of a factorised reduction into one, which needs no slice and no concatenation.
//!
//! Three of the four taps are zeros. The joined convolution needs four times the multiplications of the two
//! small ones and saves three passes over memory.

use candle_core::{Device, Tensor};
use milenas_models::graph::{Graph, Patch, Value};
use milenas_models::op::{Concat, Conv2d, Op, Padding, ParamRole, Range, Slice};
use milenas_models::{Result, Weights};

use super::{Reads, Rewrite, numbers, param_name};

/// Part of the concatenation. Its convolution reads every second pixel of `source` on both axes, starting at
/// `first`.
struct RowPart {
    source: Value,
    first: usize,
    channels: usize,
}

/// Rewrites `concat(conv(x, u, 1x1, stride 2), conv(x[1.., 1..], v, 1x1, stride 2)) -> conv(x, w, 2x2,
/// stride 2)`. `w` holds `u` at the first tap, `v` at the last, and zeros between.
pub(super) fn next(graph: &Graph, weights: &Weights) -> Result<Option<Rewrite>> {
    let reads = Reads::of(graph);
    for (value, node) in graph.values() {
        let Op::Concat(Concat { axis: 1 }) = node.op else { continue };
        let parts: Option<Vec<RowPart>> = node.inputs.iter().map(|v| part(graph, &reads, *v)).collect();
        let Some(parts) = parts else { continue };
        let source = parts[0].source;
        let Some((in_channels, height, width)) = graph.fact(source).chw() else { continue };
        if parts.iter().any(|p| p.source != source) || parts.iter().all(|p| p.first == 0) {
            continue;
        }
        let out_channels = parts.iter().map(|p| p.channels).sum();
        let mut weight = vec![0.0; out_channels * in_channels * 4];
        let mut bias = Vec::with_capacity(out_channels);
        let mut taps = weight.chunks_exact_mut(4);
        for (part, value) in parts.iter().zip(&node.inputs) {
            let conv = graph.node(*value);
            for number in numbers(weights, conv, ParamRole::Weight)? {
                taps.next().into_iter().for_each(|tap| tap[3 * part.first] = number);
            }
            match conv.param(ParamRole::Bias) {
                Some(_) => bias.extend(numbers(weights, conv, ParamRole::Bias)?),
                None => bias.resize(bias.len() + part.channels, 0.0),
            }
        }
        let mut patch = Patch::new();
        let shape = (out_channels, in_channels, 2, 2);
        let names =
            [ParamRole::Weight, ParamRole::Bias].map(|role| param_name(graph, &node.name, role, &[node]));
        patch.weight(names[0].clone(), Tensor::from_vec(weight, shape, &Device::Cpu)?);
        patch.weight(names[1].clone(), Tensor::from_vec(bias, out_channels, &Device::Cpu)?);
        let padding = Padding { bottom: height % 2, right: width % 2, ..Padding::default() };
        let conv = Conv2d::new(in_channels, out_channels, 2).stride(2).padding(padding).bias(true);
        let x = patch.tap(source);
        let joined = patch.wire(graph, &node.name, conv, &[x], Some(names.to_vec()))?;
        patch.shunt(graph, value, joined)?;
        return Ok(Some(Rewrite { at: node.name.clone(), patch }));
    }
    Ok(None)
}

/// Returns the convolution at `value`, if it is one half of a factorised reduction and nothing else reads it.
fn part(graph: &Graph, reads: &Reads, value: Value) -> Option<RowPart> {
    let node = graph.node(value);
    let Op::Conv2d(Conv2d { kernel: [1, 1], stride: [2, 2], groups: 1, padding, out_channels, .. }) =
        &node.op
    else {
        return None;
    };
    let read = graph.node(node.inputs[0]);
    let (source, first) = match &read.op {
        Op::Slice(Slice { ranges }) if cuts_one(graph, read.inputs[0], ranges) => (read.inputs[0], 1),
        _ => (node.inputs[0], 0),
    };
    let (_, height, width) = graph.fact(source).chw()?;
    // An odd size needs padding at the end, because the second half would read past it.
    let expected = Padding { bottom: first * (height % 2), right: first * (width % 2), ..Padding::default() };
    (reads.once(value) && *padding == expected).then_some(RowPart { source, first, channels: *out_channels })
}

/// Returns whether `ranges` omit the first row and the first column of `source`, and nothing else.
fn cuts_one(graph: &Graph, source: Value, ranges: &[Range]) -> bool {
    let Some((_, height, width)) = graph.fact(source).chw() else { return false };
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|r| r.axis);
    sorted == [Range { axis: 2, start: 1, end: height }, Range { axis: 3, start: 1, end: width }]
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        reduction(6, 0)
    }

    /// Factorised reduction of a square image, whose second convolution reads `edge` pixels of padding.
    fn reduction(size: usize, edge: usize) -> Graph {
        let mut b = Builder::new();
        let x = b.input("input", Fact::image(4, size, size)).unwrap();
        let ranges = vec![Range { axis: 2, start: 1, end: size }, Range { axis: 3, start: 1, end: size }];
        let shift = b.wire("shift", Slice { ranges }, &[x]).unwrap();
        let even = b.wire("even", Conv2d::pointwise(4, 2).stride(2).bias(true), &[x]).unwrap();
        let past = Padding { bottom: edge, right: edge, ..Padding::default() };
        let odd = b.wire("odd", Conv2d::pointwise(4, 3).stride(2).padding(past), &[shift]).unwrap();
        let both = b.wire("both", Concat { axis: 1 }, &[even, odd]).unwrap();
        b.output("y", both);
        b.finish().unwrap()
    }

    #[test]
    fn a_factorized_reduction_is_one_convolution_at_even_and_odd_sizes() {
        for (size, edge) in [(6, 0), (7, 1)] {
            let graph = reduction(size, edge);
            assert_eq!(assert_sound(&[&JoinReduction], &graph, Tolerance::ROUNDING, false), 1);
            let after = text(&[&JoinReduction], &graph);
            assert!(after.contains("conv2d[4->5 kernel [2, 2]") && after.lines().count() == 3, "{after}");
        }
    }
}
