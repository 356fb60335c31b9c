//! Limits on files from untrusted sources. Such a file must not exhaust memory or time.

use milenas_models::graph::{Fact, Graph, Node};
use milenas_models::op::{Op, Padding};
use milenas_models::{Error, Result};

/// Size limit of a decoded file, in bytes. The largest DARTS networks need a hundredth of it.
pub const MAX_FILE_BYTES: u64 = 1 << 30;
/// Size limit of a file whose inputs and outputs are read, in bytes: the limit of the protobuf format.
pub const MAX_INTERFACE_BYTES: u64 = i32::MAX as u64;
/// Limit on the number of messages, strings and lists in a file. Each takes some hundred bytes in memory,
/// however small it is in the file.
const MAX_FIELDS: u64 = 1 << 19;
/// Limit on the depth of nested messages. The format needs eight.
const MAX_DEPTH: usize = 32;
/// Limit on the number of nodes.
pub(super) const MAX_NODES: usize = 1 << 16;
/// Limit on the number of results.
pub(super) const MAX_OUTPUTS: usize = 64;
/// Limit on the number of values in memory at one time, for one image (2 GiB of float32).
pub const MAX_LIVE_NUMBERS: u64 = 1 << 29;
/// Limit on the multiply-accumulates and comparisons for one image. ResNet-152 at 224x224 needs a hundredth
/// of it.
pub const MAX_WORK: u64 = 1 << 40;

/// Refuses a quantity over its limit.
pub(super) fn at_most(place: &str, what: &'static str, found: u64, limit: u64) -> Result<()> {
    match found <= limit {
        true => Ok(()),
        false => Err(Error::Limit { place: place.into(), what, found, limit }),
    }
}

/// ONNX messages that contain other messages.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    Annotation,
    Training,
    Function,
}

impl Message {
    /// Returns the type of the message in field `tag`; `None` if the field holds no message.
    fn field(self, tag: u64) -> Option<Message> {
        Some(match (self, tag) {
            (Message::Model, 7) | (Message::Training, 1 | 2) | (Message::Attribute, 6 | 11) => Message::Graph,
            (Message::Model, 20) => Message::Training,
            (Message::Model, 25) => Message::Function,
            (Message::Graph, 1) | (Message::Function, 7) => Message::Node,
            (Message::Graph, 5) | (Message::Attribute, 5 | 10) | (Message::Sparse, 1 | 2) => Message::Tensor,
            (Message::Graph, 11..=13) => Message::ValueInfo,
            (Message::Graph, 14) => Message::Annotation,
            (Message::Graph, 15) | (Message::Attribute, 22 | 23) => Message::Sparse,
            (Message::Node, 5) | (Message::Function, 11) => Message::Attribute,
            // Shapes and dimensions occur in types under the same field numbers as nested types.
            (Message::ValueInfo, 2)
            | (Message::Attribute, 14 | 15)
            | (Message::Type, 1 | 2 | 4 | 5 | 8 | 9) => Message::Type,
            _ => return None,
        })
    }
}

/// Refuses a file with too many fields. The check walks through the bytes without building messages. It stops
/// at damaged data, which the decoder then reports.
pub(super) fn check_fields(bytes: &[u8], place: &str) -> Result<()> {
    let mut fields = 0;
    count(bytes, Message::Model, 0, &mut fields);
    at_most(place, "the number of fields", fields, MAX_FIELDS)
}

fn count(mut bytes: &[u8], message: Message, depth: usize, fields: &mut u64) {
    while let Some(key) = varint(&mut bytes) {
        let (tag, wire) = (key >> 3, key & 7);
        let length = match wire {
            0 => varint(&mut bytes).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut bytes),
            5 => Some(4),
            _ => None,
        };
        let Some(length) = length.and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= bytes.len()) else {
            return;
        };
        let (body, rest) = bytes.split_at(length);
        bytes = rest;
        if wire == 2 {
            *fields += 1;
            if *fields > MAX_FIELDS {
                return;
            }
            if let Some(inner) = message.field(tag).filter(|_| depth < MAX_DEPTH) {
                count(body, inner, depth + 1, fields);
            }
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for i in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << (7 * i);
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

/// Refuses a graph whose sizes multiply to more memory or work than the limits.
pub(super) fn check_work(graph: &Graph, place: &str) -> Result<()> {
    let mut last_read: Vec<usize> = (0..graph.nodes().len()).collect();
    for (value, node) in graph.values() {
        node.inputs.iter().for_each(|v| last_read[v.index()] = value.index());
    }
    graph.outputs().iter().for_each(|(_, v)| last_read[v.index()] = usize::MAX);
    let (mut live, mut work) = (0u64, 0u64);
    for (value, node) in graph.values() {
        let place = || format!("{place}, node `{}`", node.name);
        let (scratch, steps) = cost(graph, node);
        live = live.saturating_add(numbers(&node.fact));
        at_most(&place(), "numbers in memory", live.saturating_add(scratch), MAX_LIVE_NUMBERS)?;
        work = work.saturating_add(steps);
        at_most(&place(), "work up to here", work, MAX_WORK)?;
        let mut ended: Vec<_> =
            node.inputs.iter().filter(|v| last_read[v.index()] == value.index()).collect();
        ended.sort();
        ended.dedup();
        live -= ended.iter().map(|v| numbers(graph.fact(**v))).sum::<u64>();
        if last_read[value.index()] == value.index() {
            live -= numbers(&node.fact);
        }
    }
    Ok(())
}

fn numbers(fact: &Fact) -> u64 {
    fact.volume().map_or(u64::MAX, |n| n as u64)
}

/// Returns the scratch memory of a node, in values, and its work, in multiply-accumulates or comparisons.
fn cost(graph: &Graph, node: &Node) -> (u64, u64) {
    let product = |factors: &[usize]| factors.iter().fold(1u64, |n, f| n.saturating_mul(*f as u64));
    let padded = |p: Padding| {
        let (_, h, w) = node.inputs.first().and_then(|v| graph.fact(*v).chw()).unwrap_or((1, 1, 1));
        product(&[h.saturating_add(p.rows()), w.saturating_add(p.columns())])
    };
    let out = numbers(&node.fact);
    match &node.op {
        Op::Conv2d(conv) => {
            let fan_in = product(&[conv.in_channels / conv.groups, conv.kernel[0], conv.kernel[1]]);
            let columns = fan_in.saturating_mul(out / conv.out_channels as u64);
            (columns.saturating_add(padded(conv.padding)), out.saturating_mul(fan_in))
        }
        Op::Pool2d(pool) => (padded(pool.padding), out.saturating_mul(product(&pool.kernel))),
        Op::Linear(linear) => (0, out.saturating_mul(linear.in_features as u64)),
        Op::Input(_) | Op::BatchNorm(_) | Op::GlobalAvgPool(_) | Op::Relu(_) | Op::Add(_) => (out, out),
        Op::Concat(_) | Op::Slice(_) | Op::Flatten(_) | Op::Softmax(_) | Op::Identity(_) => (out, out),
        Op::Zero(_) | Op::FakeQuantize(_) | Op::Activation(_) | Op::Mul(_) => (out, out),
        Op::ChannelShuffle(_) => (out, out),
    }
}
