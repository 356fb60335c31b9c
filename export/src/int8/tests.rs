//! Tests of quantisation: encoding round trips, shared grids and the accuracy gate.

use std::collections::HashMap;

use candle_core::Device;
use milenas_models::Op;
use milenas_models::graph::Value;
use milenas_models::op::{FakeQuantize, Relu};
use proptest::prelude::*;

use super::*;
use crate::passes::run;
use crate::testing::{derived, genotype, graph, weights};
use crate::verify::{Tolerance, compare, random_inputs};
use crate::{Target, onnx};

/// A network simplified for int8 with its weights, and inputs for it.
fn prepared(source: &Graph) -> (Graph, Weights, Vec<Vec<Tensor>>) {
    let (mut graph, mut numbers) = (source.clone(), weights(source, 1));
    let simplify = Target::Portable.simplify_for_int8().unwrap();
    for passes in [simplify, Target::Portable.lower()] {
        run(&passes, &mut graph, &mut numbers, usize::MAX, &mut |_| {}).unwrap();
    }
    let inputs = random_inputs(&graph, 3).unwrap();
    (graph, numbers, inputs)
}

fn rounded(network: NetworkRef, inputs: &[Vec<Tensor>], method: Method) -> rewrite::Rewritten {
    let ranges = ranges::observe(network, inputs, method).unwrap();
    let layers = rewrite::layers(network.graph);
    let all = layers.iter().map(String::as_str).collect();
    rewrite::rewrite(network.graph, network.weights, &ranges, &all).unwrap()
}

/// The grid of an activation, searched through the operations that only move values.
fn grid(graph: &Graph, value: Value) -> Option<&FakeQuantize> {
    match &graph.node(value).op {
        Op::FakeQuantize(grid) => Some(grid),
        _ => None,
    }
}

fn assert_comes_back(source: &Graph) {
    let (graph, numbers, inputs) = prepared(source);
    let found = rounded(NetworkRef { graph: &graph, weights: &numbers }, &inputs, Method::MinMax);
    found.graph.check().unwrap();
    let format = onnx::OnnxFormat { integers: found.integers.clone(), ..onnx::OnnxFormat::default() };
    let file = onnx::encode_as(&found.graph, &found.weights, &BTreeMap::new(), &format).unwrap();
    let back = onnx::decode(&file, "memory").unwrap();
    assert_eq!(back.graph, found.graph);
    let pair = [(&found.graph, &found.weights), (&back.graph, &back.weights)];
    let [a, b] = pair.map(|(graph, weights)| NetworkRef { graph, weights });
    assert!(compare(a, b, &inputs).unwrap().within(&Tolerance::EXACT), "{source}");
    for node in found.graph.nodes() {
        if matches!(node.op, Op::Concat(_) | Op::Pool2d(_) | Op::Slice(_)) {
            let written: HashMap<_, _> = found.graph.values().map(|(v, n)| (n.name.as_str(), v)).collect();
            let Some(value) = written.get(format!("{}.int8", node.name).as_str()) else { continue };
            let own = grid(&found.graph, *value).unwrap();
            assert!(node.inputs.iter().all(|v| grid(&found.graph, *v) == Some(own)), "{}", found.graph);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_comes_back_and_grids_are_shared(seed: u64, nodes in 1..24usize) {
        assert_comes_back(&graph(seed, nodes));
    }

    #[test]
    fn derived_networks_come_back(seed in 0..1000u64) {
        assert_comes_back(&derived(&genotype(seed), 3));
    }
}

#[test]
fn results_stay_near_and_relu_is_saturation() {
    for method in Method::ALL {
        let (graph, numbers, inputs) =
            prepared(&derived(&milenas_models::Genotype::named("DARTS_V2").unwrap(), 3));
        let network = NetworkRef { graph: &graph, weights: &numbers };
        let found = rounded(network, &inputs, method);
        let is_relu = |n: &&milenas_models::graph::Node| matches!(n.op, Op::Relu(Relu));
        assert!(graph.nodes().iter().any(|n| is_relu(&n)));
        assert_eq!(found.graph.nodes().iter().filter(is_relu).count(), 0);
        let other = NetworkRef { graph: &found.graph, weights: &found.weights };
        let difference = compare(network, other, &inputs).unwrap();
        assert!(difference.max_rel > 1e-4 && difference.max_rel < 0.3, "{method:?}: {difference}");
    }
}

#[test]
fn two_products_of_a_dense_weight_fit_in_16_bits() {
    let (graph, numbers, inputs) = prepared(&derived(&genotype(1), 3));
    let found = rounded(NetworkRef { graph: &graph, weights: &numbers }, &inputs, Method::MinMax);
    let mut seen = 0;
    for node in graph.nodes() {
        let Op::Conv2d(conv) = &node.op else { continue };
        let Some(Integers::Int8(scales)) = found.integers.get(&node.params[0].name) else { continue };
        let numbers =
            crate::passes::numbers(&found.weights, node, milenas_models::op::ParamRole::Weight).unwrap();
        let inner = numbers.len() / scales.len();
        let most = numbers.iter().enumerate().map(|(i, w)| (w / scales[i / inner]).abs()).fold(0.0, f32::max);
        let limit = if conv.groups == 1 { 32767.0 / 2.0 / 255.0 } else { 127.5 };
        assert!(most < limit && most > 63.0, "{most}");
        seen += 1;
    }
    assert!(seen > 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn wider_networks_compute_the_same(seed in 0..1000u64, nodes in 1..24usize) {
        for source in [graph(seed, nodes), derived(&genotype(seed), 3)] {
            let (graph, numbers, inputs) = prepared(&source);
            let network = NetworkRef { graph: &graph, weights: &numbers };
            let Some((wider, wide)) = widen::widen(network).unwrap() else { continue };
            wider.check().unwrap();
            wide.check(&wider).unwrap();
            let found = compare(network, NetworkRef { graph: &wider, weights: &wide }, &inputs).unwrap();
            assert!(found.within(&Tolerance::ROUNDING), "{found}\n{graph}\n{wider}");
        }
    }
}

#[test]
fn a_published_network_gets_channels_in_eights() {
    let config = milenas_models::NetworkConfig {
        channels: 20,
        layers: 3,
        classes: 10,
        in_channels: 3,
        height: 8,
        width: 8,
        skeleton: milenas_models::Skeleton::Cifar,
    };
    let named = milenas_models::Genotype::named("DARTS_V2").unwrap();
    let (graph, numbers, _) = prepared(&milenas_models::assemble(&named, &config).unwrap());
    let (wider, wide) = widen::widen(NetworkRef { graph: &graph, weights: &numbers }).unwrap().unwrap();
    let convs = |graph: &Graph| -> Vec<usize> {
        let of = |n: &milenas_models::graph::Node| match &n.op {
            Op::Conv2d(c) if c.groups > 1 => Some(c.groups),
            _ => None,
        };
        graph.nodes().iter().filter_map(of).collect()
    };
    assert!(convs(&graph).contains(&20));
    assert!(convs(&wider).iter().all(|c| c % 8 == 0), "{:?}", convs(&wider));
    // Channel counts that are already multiples of 8 are unchanged.
    let again = widen::widen(NetworkRef { graph: &wider, weights: &wide }).unwrap();
    assert!(again.is_none());
}

/// Quantises with a holdout whose labels are the float32 network's own predictions.
fn gated(gate: f64) -> (Int8Report, usize) {
    let (graph, numbers, _) = prepared(&derived(&genotype(2), 3));
    let network = NetworkRef { graph: &graph, weights: &numbers };
    let mut rng = milenas_models::Rng::new(5, "int8");
    let mut batch = || {
        let numbers: Vec<f32> = (0..16 * 3 * 64).map(|_| rng.normal()).collect();
        vec![Tensor::from_vec(numbers, (16, 3, 8, 8), &Device::Cpu).unwrap()]
    };
    let (calibration, holdout) = (vec![batch()], vec![batch(), batch(), batch()]);
    let scores = results(network, &holdout).unwrap();
    let best = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
    let labels: Vec<u32> = scores.chunks(10).map(best).collect();
    let int8 = Int8 {
        method: Method::MinMax,
        gate,
        calibration: &calibration,
        holdout: &holdout,
        labels: &labels,
        progress: &|_| {},
    };
    let found = quantize(network, &int8, Target::Portable).unwrap();
    (found.outcome, rewrite::layers(&graph).len())
}

#[test]
fn sensitive_layers_go_back_until_the_gate_holds() {
    let (open, layers) = gated(100.0);
    assert_eq!((open.rounded, open.floats.len()), (layers, 0));
    assert_eq!((open.calibration_images, open.holdout_images, open.accuracy[0]), (16, 48, 100.0));
    // No accuracy exceeds 100 %, so a negative gate lets no rounding pass.
    let (shut, _) = gated(-1.0);
    assert_eq!((shut.rounded, shut.floats.len()), (0, layers));
    assert_eq!(shut.accuracy[0], shut.accuracy[1]);
    assert!(shut.floats.windows(2).all(|pair| pair[0].error >= pair[1].error));
    assert!(shut.floats[0].error > 0.0);
}
