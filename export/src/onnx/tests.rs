//! Tests of the codec: encoding round trips, and refusal of graphs and files that it does not support.

mod hostile;

use std::collections::{BTreeMap, HashSet};

use super::schema::{AttributeType, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use candle_core::{DType, Device, Tensor};
use milenas_models::graph::{Builder, Dim, Fact};
use milenas_models::op::{Conv2d, FakeQuantize, Input, Op, Relu, Zero};
use milenas_models::{Executor, Graph, Mode, Rng, Weights, cost};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::passes::run;
use crate::testing::{derived, genotype, graph, weights};
use crate::{Error, Result, Target};

fn lowered(source: &Graph, simplify: bool) -> (Graph, Weights) {
    let (mut graph, mut numbers) = (source.clone(), weights(source, 1));
    let passes = if simplify { Target::Portable.simplify() } else { Vec::new() };
    run(&passes, &mut graph, &mut numbers, usize::MAX, &mut |_| {}).unwrap();
    run(&Target::Portable.lower(), &mut graph, &mut numbers, usize::MAX, &mut |_| {}).unwrap();
    (graph, numbers)
}

fn text(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_string(), value.to_string())])
}

fn assert_round_trip(graph: &Graph, numbers: &Weights) {
    let metadata = text("labels", "cat, dog");
    let bytes = encode(graph, numbers, &metadata).unwrap();
    assert_eq!(bytes, encode(graph, numbers, &metadata).unwrap());
    let back = decode(&bytes, "memory").unwrap();
    assert_eq!(&back.graph, graph);
    assert_eq!(back.metadata, metadata);
    let raw = |w: &Weights| w.to_bytes(BTreeMap::new()).unwrap();
    assert_eq!(raw(&back.weights), raw(numbers));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_comes_back(seed: u64, nodes in 1..24usize, simplify: bool) {
        let (graph, numbers) = lowered(&graph(seed, nodes), simplify);
        assert_round_trip(&graph, &numbers);
    }

    #[test]
    fn derived_networks_come_back(seed in 0..1000u64, simplify: bool) {
        let (graph, numbers) = lowered(&derived(&genotype(seed), 3), simplify);
        assert_round_trip(&graph, &numbers);
    }
}

fn small() -> (Graph, Weights) {
    lowered(&derived(&genotype(5), 2), true)
}

/// Readers of proto2, such as OpenCV, ask whether a field is present, so a zero value must also be written.
#[test]
fn every_attribute_has_its_value() {
    for seed in 0..20 {
        let (graph, numbers) = lowered(&derived(&genotype(seed), 3), false);
        let bytes = encode(&graph, &numbers, &BTreeMap::new()).unwrap();
        let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
        for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
            let present = match attribute.r#type() {
                AttributeType::Int => attribute.i.is_some(),
                AttributeType::Float => attribute.f.is_some(),
                _ => !attribute.ints.is_empty(),
            };
            assert!(present, "{attribute:?}");
        }
        let zeros = graph.node.iter().flat_map(|node| &node.attribute).filter(|a| a.i == Some(0));
        assert!(zeros.count() > 0, "the test sees no zero");
    }
}

fn small_model() -> ModelProto {
    let (graph, numbers) = small();
    ModelProto::decode(encode(&graph, &numbers, &BTreeMap::new()).unwrap().as_slice()).unwrap()
}

/// Result of decoding a small network after `change`.
fn changed(change: impl FnOnce(&mut GraphProto)) -> Result<Decoded> {
    let mut model = small_model();
    change(model.graph.as_mut().unwrap());
    decode(&model.encode_to_vec(), "model.onnx")
}

#[track_caller]
fn assert_refused(change: impl FnOnce(&mut GraphProto), words: &[&str]) {
    let message = changed(change).unwrap_err().to_string();
    for word in words.iter().chain(&["model.onnx"]) {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[test]
fn the_file_follows_the_conventions() {
    let model = small_model();
    assert_eq!((model.ir_version, model.opset_import[0].version), (8, 17));
    let graph = model.graph.unwrap();
    assert_eq!((graph.input.len(), graph.input[0].name.as_str()), (1, "input"));
    assert_eq!((graph.output.len(), graph.output[0].name.as_str()), (1, "logits"));
    let input = format!("{:?}", graph.input[0]);
    for word in ["DimParam(\"batch\")", "DATA_BATCH", "DATA_CHANNEL", "DATA_FEATURE", "IMAGE"] {
        assert!(input.contains(word), "{input}");
    }
    let names: HashSet<_> = graph.node.iter().map(|n| &n.name).collect();
    assert_eq!(names.len(), graph.node.len());
    assert_eq!(graph.value_info.len() + graph.output.len(), graph.node.len());
    assert!(graph.initializer.iter().all(|t| graph.input[0].name != t.name && !t.raw_data.is_empty()));
    assert!(!graph.node.iter().any(|n| n.op_type == "BatchNormalization" || n.op_type == "Identity"));
}

#[test]
fn an_input_of_fixed_size_stays_fixed() {
    let mut b = Builder::new();
    let x = b.input("x", Fact::fixed(&[4, 3, 5, 5])).unwrap();
    let y = b.wire("same", Relu, &[x]).unwrap();
    b.output("y", y);
    assert_round_trip(&b.finish().unwrap(), &Weights::default());
}

#[test]
fn names_that_collide_come_back() {
    let mut b = Builder::new();
    let x = b.input("x", Fact::image(2, 3, 3)).unwrap();
    // A node with the name of the result, one with that of a parameter, and one with that of another node's
    // constant.
    let y = b.wire("y", Relu, &[x]).unwrap();
    let weight = b.wire("conv.weight", Relu, &[y]).unwrap();
    let conv = b.wire("conv", Conv2d::pointwise(2, 2), &[weight]).unwrap();
    let min = b.wire("none.min", Relu, &[conv]).unwrap();
    let none = b.wire("none", Zero { stride: 1 }, &[min]).unwrap();
    b.output("y", none);
    let graph = b.finish().unwrap();
    assert_round_trip(&graph, &weights(&graph, 1));
}

#[test]
fn what_is_not_lowered_is_refused() {
    let mut b = Builder::new();
    let x = b.input("x", Fact::image(2, 4, 4)).unwrap();
    let zero = b.wire("none", Zero { stride: 2 }, &[x]).unwrap();
    b.output("y", zero);
    let error = encode(&b.finish().unwrap(), &Weights::default(), &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("`none`") && error.contains("lower_none"), "{error}");

    let mut b = Builder::new();
    let x = b.input("x", Fact::image(2, 4, 4)).unwrap();
    b.output("y", x);
    let error = encode(&b.finish().unwrap(), &Weights::default(), &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("`y`") && error.contains("Identity"), "{error}");
}

#[test]
fn unknown_operators_are_all_named_at_once() {
    let change = |graph: &mut GraphProto| {
        graph.node[0].op_type = "Erf".into();
        graph.node[2].op_type = "LSTM".into();
        graph.node[3].domain = "com.microsoft".into();
        let names = [0, 2, 3].map(|i| graph.node[i].name.clone());
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 3);
    };
    let (graph, _) = small();
    let nodes: Vec<_> = graph.nodes().iter().filter(|n| !matches!(n.op, Op::Input(Input { .. }))).collect();
    let quoted = |i: usize| format!("(`{}`)", nodes[i].name);
    assert_refused(change, &["Erf", "LSTM", "com.microsoft", &quoted(0), &quoted(2), &quoted(3)]);
}

#[test]
fn what_does_not_add_up_is_refused() {
    assert_refused(|g| g.node[1].input[0] = "nothing".into(), &["`nothing`", "earlier node"]);
    assert_refused(|g| g.node.swap(0, 1), &["earlier node"]);
    assert_refused(|g| g.node[1].output[0] = g.node[0].output[0].clone(), &["taken"]);
    assert_refused(|g| g.initializer[1].name = g.initializer[0].name.clone(), &["taken"]);
    assert_refused(|g| g.initializer[0].name = "x".into(), &["earlier node"]);
    assert_refused(|g| g.output[0].name = "x".into(), &["`x` is not defined"]);
    assert_refused(|g| g.output.clear(), &[]);
    assert_refused(|g| g.initializer[0].dims[0] = 1 << 40, &["initialiser", "shape"]);
    assert_refused(|g| g.initializer[0].dims = vec![i64::MAX; 3], &["initialiser", "shape"]);
    assert_refused(|g| g.initializer[0].dims[0] = -1, &["initialiser", "shape"]);
    assert_refused(|g| g.initializer[0].raw_data.truncate(8), &["initialiser", "8 bytes"]);
    assert_refused(|g| g.initializer[0].data_location = 1, &["another file"]);
    assert_refused(
        |g| g.initializer[0].external_data = vec![StringStringEntryProto::default()],
        &["another file"],
    );
    assert_refused(
        |g| {
            g.initializer[0].data_type = 10;
            let half = g.initializer[0].raw_data.len() / 2;
            g.initializer[0].raw_data.truncate(half)
        },
        &["FLOAT16", "float32"],
    );
    assert_refused(|g| g.sparse_initializer.push(Default::default()), &["sparse"]);
    let conv = |g: &mut GraphProto| g.node.iter().position(|n| n.op_type == "Conv").unwrap();
    assert_refused(
        |g| {
            let i = conv(g);
            g.node[i].attribute[1].name = "grp".into()
        },
        &["(Conv)", "`grp`"],
    );
    assert_refused(
        |g| {
            let i = conv(g);
            g.node[i].attribute[0].ints[0] = 0
        },
        &["(Conv)", "may be 0"],
    );
    assert_refused(
        |g| {
            let i = conv(g);
            g.node[i].attribute[3].ints[0] = -1
        },
        &["(Conv)", "-1"],
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = read(std::path::Path::new("/nowhere/model.onnx")).unwrap_err();
    assert!(matches!(error, Error::Model(milenas_models::Error::Io { .. })), "{error}");
    assert!(error.to_string().contains("/nowhere/model.onnx"));
}

#[test]
fn every_format_comes_back() {
    let (graph, numbers) = small();
    for opset in OPSETS {
        for (half, bytes) in [(false, false), (true, false), (false, true), (true, true)] {
            let format = OnnxFormat { opset, half, bytes, ..OnnxFormat::default() };
            let file = encode_as(&graph, &numbers, &BTreeMap::new(), &format).unwrap();
            let model = ModelProto::decode(file.as_slice()).unwrap();
            assert_eq!((model.opset_import[0].version, model.ir_version), (opset, format.ir_version()));
            let back = decode(&file, "memory").unwrap();
            assert_eq!((back.bytes, &back.graph), (bytes, &graph));
            for (name, tensor) in numbers.iter() {
                let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let rounded = |x: &f32| half::f16::from_f32(*x).to_f32();
                let found = values(back.weights.get(name).unwrap());
                let expected = values(tensor);
                match half && tensor.rank() > 1 {
                    true => assert_eq!(found, expected.iter().map(rounded).collect::<Vec<_>>()),
                    false => assert_eq!(found, expected),
                }
            }
        }
    }
    for opset in [12, 23] {
        let format = OnnxFormat { opset, ..OnnxFormat::default() };
        let message = encode_as(&graph, &numbers, &BTreeMap::new(), &format).unwrap_err().to_string();
        assert!(message.contains("13 to 22"), "{message}");
    }
}

#[test]
fn a_number_out_of_the_range_of_float16_is_refused() {
    let (graph, numbers) = small();
    let name = graph.params().find(|p| p.shape.len() > 1).unwrap().name.clone();
    numbers.modify(&name, |x| x[0] = 1e6).unwrap();
    let format = OnnxFormat { half: true, ..OnnxFormat::default() };
    let message = encode_as(&graph, &numbers, &BTreeMap::new(), &format).unwrap_err().to_string();
    assert!(message.contains(&name) && message.contains("float16"), "{message}");
}

#[test]
fn integers_that_do_not_come_in_pairs_are_refused() {
    let mut b = Builder::new();
    let x = b.input("input", Fact::image(1, 2, 2)).unwrap();
    let y = b.wire("y", FakeQuantize { scale: 0.5, zero: 3, signed: false }, &[x]).unwrap();
    let y = b.wire("logits", Relu, &[y]).unwrap();
    b.output("logits", y);
    let file = encode(&b.finish().unwrap(), &Weights::default(), &BTreeMap::new()).unwrap();
    let read = |change: &dyn Fn(&mut GraphProto)| {
        let mut model = ModelProto::decode(file.as_slice()).unwrap();
        change(model.graph.as_mut().unwrap());
        decode(&model.encode_to_vec(), "model.onnx").map_err(|e| e.to_string())
    };
    assert_eq!(read(&|_| {}).unwrap().graph.nodes().len(), 3);
    let refused = |change: &dyn Fn(&mut GraphProto), word: &str| {
        let message = read(change).unwrap_err();
        assert!(message.contains(word), "{message}");
    };
    refused(&|g| g.node[2].input[0] = g.node[0].output[0].clone(), "holds integers");
    refused(&|g| g.node[1].input[1] = "other".into(), "other");
    refused(&|g| g.node[1].input[0] = "input".into(), "no QuantizeLinear");
    refused(&|g| drop(g.node[1].input.pop()), "QuantizeLinear before it");
    refused(&|g| g.initializer[0].raw_data = vec![0; 4].into(), "scale is 0");
    refused(&|g| g.initializer[0].dims = vec![0], "initialiser");
}

/// Result of decoding a small network with a uint8 input after `change`.
fn changed_bytes(change: impl FnOnce(&mut GraphProto)) -> Result<Decoded> {
    let (graph, numbers) = small();
    let format = OnnxFormat { bytes: true, ..OnnxFormat::default() };
    let file = encode_as(&graph, &numbers, &BTreeMap::new(), &format).unwrap();
    let mut model = ModelProto::decode(file.as_slice()).unwrap();
    change(model.graph.as_mut().unwrap());
    decode(&model.encode_to_vec(), "model.onnx")
}

#[test]
fn bytes_that_are_not_brought_to_planes_of_floats_are_refused() {
    // The file must start with Cast, Transpose and the first convolution, which reads their result.
    let first = |g: &GraphProto| (g.node[0].op_type.clone(), g.node[1].op_type.clone());
    let refused = |change: &dyn Fn(&mut GraphProto), word: &str| {
        let message = changed_bytes(change).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    changed_bytes(|g| assert_eq!(first(g), ("Cast".into(), "Transpose".into()))).unwrap();
    refused(&|g| g.node[2].input[0] = "input".into(), "holds bytes");
    refused(&|g| g.node[1].attribute[0].ints = vec![0, 2, 3, 1], "perm");
    refused(&|g| g.node[0].attribute[0].i = Some(10), "to is 10");
    refused(&|g| g.node[0].input[0] = "nothing".into(), "nothing");
}
