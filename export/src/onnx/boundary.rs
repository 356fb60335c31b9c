//! Operators at the boundary of a file: the operator that computes an output, and the layout of the input.

use super::schema::{AttributeProto, GraphProto, NodeProto};

/// Largest number of nodes to follow from an input or output.
const FAR: usize = 32;

/// Kind of operator that computes an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `Softmax`.
    Softmax,
    /// `Sigmoid` or `HardSigmoid`.
    Sigmoid,
    /// Operator with unbounded results, such as `Gemm`.
    Unbounded,
    /// Operator whose result is the index of a class, such as `ArgMax`.
    Index,
    /// Another operator.
    Other,
}

/// Order of an image's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageLayout {
    /// `[N, C, H, W]`.
    Nchw,
    /// `[N, H, W, C]`.
    Nhwc,
}

/// Returns the kind of operator that computes an output. Follows the graph upwards through operators that
/// only reshape, cast or round.
pub(super) fn ending(graph: &GraphProto, output: &str) -> Ending {
    let mut wire = output;
    for _ in 0..FAR {
        let Some(node) = writer(graph, wire) else { return Ending::Other };
        match node.op_type.as_str() {
            "Softmax" => return Ending::Softmax,
            "Sigmoid" | "HardSigmoid" => return Ending::Sigmoid,
            "ArgMax" | "ArgMin" | "TopK" | "ArrayFeatureExtractor" => return Ending::Index,
            "Gemm" | "MatMul" | "MatMulInteger" | "Conv" | "ConvInteger" | "BatchNormalization"
            | "GlobalAveragePool" | "LogSoftmax" | "Einsum" => return Ending::Unbounded,
            // `Add` of a constant is the bias of a linear operator. `Add` of two computed values may be a
            // mean of probabilities.
            "Add" if node.input.iter().any(|name| is_constant(graph, name)) => return Ending::Unbounded,
            "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Cast" | "CastLike"
            | "Transpose" | "Dropout" | "DequantizeLinear" | "QuantizeLinear" => match node.input.first() {
                Some(input) => wire = input,
                None => return Ending::Other,
            },
            _ => return Ending::Other,
        }
    }
    Ending::Other
}

/// Returns the class names of the `ZipMap` that writes an output.
pub(super) fn zip_map(graph: &GraphProto, output: &str) -> Option<Vec<String>> {
    let node = writer(graph, output).filter(|node| node.op_type == "ZipMap")?;
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let text = |s: &Vec<u8>| String::from_utf8_lossy(s).into_owned();
    let strings = |a: &AttributeProto| a.strings.iter().map(text).collect();
    let integers = |a: &AttributeProto| a.ints.iter().map(i64::to_string).collect();
    attribute("classlabels_strings").map(strings).or_else(|| attribute("classlabels_int64s").map(integers))
}

/// Returns the layout and the number of channels of an input, if the graph shows them. Follows the input
/// downwards through elementwise operators to an operator that fixes the layout. The weight of a convolution
/// shows the channels.
pub(super) fn layout(graph: &GraphProto, input: &str) -> (Option<ImageLayout>, Option<usize>) {
    let mut wire = input;
    for _ in 0..FAR {
        let Some(node) = reader(graph, wire) else { return (None, None) };
        let ints = |name: &str| node.attribute.iter().find(|a| a.name == name).map(|a| a.ints.as_slice());
        match node.op_type.as_str() {
            "Transpose" => {
                return match ints("perm") {
                    Some([0, 3, 1, 2]) => (Some(ImageLayout::Nhwc), None),
                    Some([0, 2, 3, 1]) => (Some(ImageLayout::Nchw), None),
                    _ => (None, None),
                };
            }
            "Conv" => return (Some(ImageLayout::Nchw), convolved(graph, node)),
            "GlobalAveragePool"
            | "MaxPool"
            | "AveragePool"
            | "BatchNormalization"
            | "SpaceToDepth"
            | "InstanceNormalization"
            | "GlobalMaxPool" => return (Some(ImageLayout::Nchw), None),
            "Identity" | "Cast" | "CastLike" | "Sub" | "Div" | "Mul" | "Add" | "Clip" | "QuantizeLinear"
            | "DequantizeLinear" | "Dropout" => match node.output.first() {
                Some(output) => wire = output,
                None => return (None, None),
            },
            _ => return (None, None),
        }
    }
    (None, None)
}

fn is_constant(graph: &GraphProto, wire: &str) -> bool {
    let by_node = || writer(graph, wire).is_some_and(|node| node.op_type == "Constant");
    graph.initializer.iter().any(|tensor| tensor.name == wire) || by_node()
}

fn writer<'a>(graph: &'a GraphProto, wire: &str) -> Option<&'a NodeProto> {
    graph.node.iter().rev().find(|node| node.output.iter().any(|name| name == wire))
}

/// Returns the first node that reads a wire, except `Shape` nodes.
fn reader<'a>(graph: &'a GraphProto, wire: &str) -> Option<&'a NodeProto> {
    let reads = |node: &&NodeProto| node.op_type != "Shape" && node.input.iter().any(|name| name == wire);
    graph.node.iter().find(reads)
}

/// Returns the input channels of a convolution: the second dimension of its weight times the number of
/// groups.
fn convolved(graph: &GraphProto, node: &NodeProto) -> Option<usize> {
    let weight = graph.initializer.iter().find(|t| Some(&t.name) == node.input.get(1))?;
    let groups = node.attribute.iter().find(|a| a.name == "group").map_or(1, AttributeProto::i);
    usize::try_from(weight.dims.get(1)?.checked_mul(groups)?).ok().filter(|&n| n > 0)
}
