//! Decoders of ONNX operators into operations of the graph, one function per operator.

mod activation;
mod convolution;
mod dense;
mod pointwise;
mod pooling;
mod quantize;
mod scope;
mod shape;

use super::schema::NodeProto;
use milenas_models::graph::Value;

pub(super) use scope::{NodeReader, Scope};

/// Result of reading a node. The error is a text; the caller adds the name of the node.
type Read<T> = Result<T, String>;

/// Operator name and its decoder. `Constant` defines no wire and is handled by [`NodeReader::alias`].
type Entry<T = Value> = (&'static str, for<'s, 'a> fn(&mut NodeReader<'s, 'a>) -> Read<T>);

const TABLE: &[Entry] = &[
    ("Add", pointwise::add),
    ("AveragePool", pooling::average_pool),
    ("BatchNormalization", convolution::batch_norm),
    ("Clip", activation::clip),
    ("Concat", shape::concat),
    ("Conv", convolution::conv),
    ("DequantizeLinear", quantize::dequantize),
    ("Dropout", pointwise::dropout),
    ("Flatten", shape::flatten),
    ("Gemm", dense::gemm),
    ("GlobalAveragePool", pooling::global_average_pool),
    ("HardSigmoid", activation::hard_sigmoid),
    ("HardSwish", activation::hard_swish),
    ("Identity", pointwise::identity),
    ("LeakyRelu", activation::leaky_relu),
    ("MatMul", dense::matmul),
    ("MaxPool", pooling::max_pool),
    ("Mul", pointwise::mul),
    ("ReduceMean", pooling::reduce_mean),
    ("Relu", pointwise::relu),
    ("Reshape", shape::reshape),
    ("Sigmoid", activation::sigmoid),
    ("Slice", shape::slice),
    ("Softmax", pointwise::softmax),
    ("Sum", pointwise::sum),
    ("Tanh", activation::tanh),
];

/// Operators with several results, and their decoders.
const SEVERAL: &[Entry<Vec<Value>>] = &[("Split", shape::split)];

/// Operators that are accepted if they compute nothing by themselves.
const ALIASES: [&str; 4] = ["Cast", "Constant", "QuantizeLinear", "Transpose"];

/// Returns whether an operator of the standard has a decoder.
pub(super) fn is_known(operator: &str) -> bool {
    ALIASES.contains(&operator)
        || TABLE.iter().any(|(name, _)| *name == operator)
        || SEVERAL.iter().any(|(name, _)| *name == operator)
}

/// Returns the name of a node for messages: its own name, or that of its first output.
pub(super) fn label(node: &NodeProto) -> &str {
    let first = node.output.first().map_or("", String::as_str);
    if node.name.is_empty() { first } else { &node.name }
}

/// Decodes one node: emits an operation, or records the constant that the node stands for.
pub(super) fn read<'a>(scope: &mut Scope<'a>, node: &'a NodeProto) -> Read<()> {
    let Some(output) = node.output.first().filter(|name| !name.is_empty()) else {
        return Err("it writes nothing".into());
    };
    if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !scope.is_defined(name)) {
        return Err(format!("it reads `{name}`, which no input, initialiser or earlier node defines"));
    }
    let mut reader = NodeReader::of(scope, node);
    if let Some(definition) = reader.alias()? {
        reader.attributes.all_known()?;
        return scope.define(output, definition);
    }
    if let Some((_, wires)) = SEVERAL.iter().find(|(name, _)| *name == node.op_type) {
        let values = wires(&mut reader)?;
        reader.attributes.all_known()?;
        let named = node.output.iter().zip(values).filter(|(name, _)| !name.is_empty());
        return named.into_iter().try_for_each(|(name, value)| scope.define_wire(name, value));
    }
    let Some((_, wire)) = TABLE.iter().find(|(name, _)| *name == node.op_type) else {
        return Err(
            "this program has it only for constants, for an input of bytes, and to round a wire".into()
        );
    };
    let value = wire(&mut reader)?;
    reader.attributes.all_known()?;
    scope.define_wire(output, value)
}
