//! Tests of patches: their changes, their errors, and that a rejected patch changes nothing.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};
use milenas_models::graph::{Builder, Fact, Graph, Patch, Value};
use milenas_models::op::{Add, BatchNorm, Conv2d, Identity, Relu};
use milenas_models::{Executor, Mode, Op, Weights};

/// Returns the network x -> conv -> bn -> relu -> y, with a second output conv + relu.
fn network() -> (Graph, Weights) {
    let mut b = Builder::new();
    let x = b.input("x", Fact::image(2, 4, 4)).unwrap();
    let conv = b.wire("conv", Conv2d::pointwise(2, 3), &[x]).unwrap();
    let bn = b.wire("bn", BatchNorm::new(3, true), &[conv]).unwrap();
    let relu = b.wire("relu", Relu, &[bn]).unwrap();
    let sum = b.wire("sum", Add, &[conv, relu]).unwrap();
    b.output("y", sum);
    let graph = b.finish().unwrap();
    let weights = Weights::init(&graph, 0).unwrap();
    (graph, weights)
}

fn find(graph: &Graph, name: &str) -> Value {
    graph.values().find(|(_, n)| n.name == name).unwrap().0
}

#[test]
fn a_bypass_takes_the_node_and_its_weights_away() {
    let (mut graph, mut weights) = network();
    let mut patch = Patch::new();
    let conv = patch.tap(find(&graph, "conv"));
    patch.shunt(&graph, find(&graph, "bn"), conv).unwrap();
    patch.apply(&mut graph, &mut weights).unwrap();
    assert!(graph.nodes().iter().all(|n| n.name != "bn"));
    assert_eq!(weights.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["conv.weight"]);
    weights.check(&graph).unwrap();
}

#[test]
fn a_replacement_may_take_the_name_and_brings_its_numbers() {
    let (mut graph, mut weights) = network();
    let mut patch = Patch::new();
    let x = patch.tap(find(&graph, "x"));
    let conv = patch.wire(&graph, "conv", Conv2d::pointwise(2, 3).bias(true), &[x], None).unwrap();
    patch.shunt(&graph, find(&graph, "conv"), conv).unwrap();
    patch.weight("conv.bias", Tensor::ones(3, candle_core::DType::F32, &Device::Cpu).unwrap());
    let input = [Tensor::ones((1, 2, 4, 4), candle_core::DType::F32, &Device::Cpu).unwrap()];
    let run = |g: &Graph, w: &Weights| Executor::new(g, w).run(&input, Mode::Eval).unwrap().remove(0);
    let before = run(&graph, &weights);
    patch.apply(&mut graph, &mut weights).unwrap();
    assert!(matches!(&graph.node(find(&graph, "conv")).op, Op::Conv2d(c) if c.bias));
    let moved = (run(&graph, &weights) - before).unwrap().min_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(moved > 0.99, "the bias of 1 reaches the output: {moved}");
}

#[test]
fn a_wrapped_node_is_read_by_the_wrapper_alone() {
    let (mut graph, mut weights) = network();
    let mut patch = Patch::new();
    let relu = patch.tap(find(&graph, "relu"));
    let wrapper = patch.wire(&graph, "wrapper", Identity, &[relu], None).unwrap();
    patch.shunt(&graph, find(&graph, "relu"), wrapper).unwrap();
    patch.apply(&mut graph, &mut weights).unwrap();
    assert_eq!(graph.consumers(find(&graph, "relu")), [find(&graph, "wrapper")]);
}

#[test]
fn a_changed_shape_a_cycle_and_missing_numbers_are_refused_and_change_nothing() {
    let (mut graph, mut weights) = network();
    let before = graph.to_string();

    let mut patch = Patch::new();
    let x = patch.tap(find(&graph, "x"));
    let message = patch.shunt(&graph, find(&graph, "conv"), x).unwrap_err().to_string();
    assert!(message.contains("[N, 3, 4, 4] to [N, 2, 4, 4]"), "{message}");

    let mut patch = Patch::new();
    let relu = patch.tap(find(&graph, "relu"));
    patch.shunt(&graph, find(&graph, "conv"), relu).unwrap();
    assert!(patch.apply(&mut graph, &mut weights).unwrap_err().to_string().contains("read itself"));

    let mut patch = Patch::new();
    let x = patch.tap(find(&graph, "x"));
    let conv = patch.wire(&graph, "other", Conv2d::pointwise(2, 3), &[x], None).unwrap();
    patch.shunt(&graph, find(&graph, "conv"), conv).unwrap();
    let message = patch.apply(&mut graph, &mut weights).unwrap_err().to_string();
    assert!(message.contains("`other.weight` is missing"), "{message}");

    assert_eq!(graph.to_string(), before);
    weights.check(&graph).unwrap();
}
