//! Comparison of scores with reference implementations, which read the ReLU codes and gradients of the executor.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor, Var};
use milenas_models::fused::{BufferPool, FusedNetwork};
use milenas_models::op::Op;
use milenas_models::{
    Executor, Genotype, Graph, Mode, NetworkConfig, Rng, Skeleton, Trainable, Weights, assemble,
    space::{self, Space},
};
use milenas_search::data::Batch;
use milenas_search::score::{
    AzExpressivity, AzProgressivity, AzTrainability, Convolutions, GradNorm, JacobCov, Naswot, Score, Scorer,
    Synflow,
};

const ARCH: &str = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|none~2|";

fn network(channels: usize, layers: usize, side: usize) -> NetworkConfig {
    let (height, width) = (side, side);
    NetworkConfig { channels, layers, classes: 4, in_channels: 3, height, width, skeleton: Skeleton::Cifar }
}

fn noise(count: usize, side: usize) -> Vec<f32> {
    let mut rng = Rng::new(3, "noise");
    (0..count * 3 * side * side).map(|_| rng.uniform(-1.0, 1.0)).collect()
}

fn fast(graph: &Graph, weights: &Weights) -> FusedNetwork {
    let mut network = FusedNetwork::new(graph).unwrap();
    network.tensors_mut().load(weights).unwrap();
    network
}

fn tensor(images: &[f32], side: usize) -> Tensor {
    let count = images.len() / (3 * side * side);
    Tensor::from_slice(images, (count, 3, side, side), &Device::Cpu).unwrap()
}

/// Returns the bits of each image at all ReLUs, in execution order.
fn slow_codes(graph: &Graph, weights: &Weights, images: &Tensor) -> Vec<Vec<bool>> {
    let mut codes = vec![Vec::new(); images.dim(0).unwrap()];
    let mut see = |node: &milenas_models::graph::Node, out: &Tensor| {
        if matches!(node.op, Op::Relu(_)) {
            for (code, row) in codes.iter_mut().zip(out.flatten_from(1).unwrap().to_vec2::<f32>().unwrap()) {
                code.extend(row.iter().map(|x| *x > 0.0));
            }
        }
    };
    Executor::new(graph, weights).run_observed(std::slice::from_ref(images), Mode::Train, &mut see).unwrap();
    codes
}

#[test]
fn codes_cover_every_relu() {
    let darts = Genotype::named("DARTS_V2").unwrap();
    for (genotype, channels) in [(Genotype::parse(ARCH, "arch").unwrap(), 6), (darts, 5)] {
        let graph = assemble(&genotype, &network(channels, 5, 12)).unwrap();
        let weights = Weights::init(&graph, 1).unwrap();
        let images = noise(5, 12);
        let found = fast(&graph, &weights).codes(&images, &mut BufferPool::default()).unwrap();
        let expected = slow_codes(&graph, &weights, &tensor(&images, 12));
        assert_eq!(found.units, expected[0].len() as u64);
        for (i, a) in expected.iter().enumerate() {
            for (j, b) in expected.iter().enumerate() {
                let differing = a.iter().zip(b).filter(|(a, b)| a != b).count() as u64;
                // A value near zero may get either bit by rounding.
                assert!(found.differing[i * 5 + j].abs_diff(differing) <= 2, "{i} {j}");
            }
        }
    }
}

/// The patterns over a batch are the columns of the executor's codes.
#[test]
fn patterns_cover_every_relu() {
    let darts = Genotype::named("DARTS_V2").unwrap();
    for (genotype, channels) in [(Genotype::parse(ARCH, "arch").unwrap(), 6), (darts, 5)] {
        let graph = assemble(&genotype, &network(channels, 5, 12)).unwrap();
        let weights = Weights::init(&graph, 1).unwrap();
        let images = noise(9, 12);
        let mut found = BTreeMap::<u64, i64>::new();
        let mut count = |times: u64, patterns: &[u64]| {
            patterns.iter().for_each(|pattern| *found.entry(*pattern).or_default() += times as i64);
        };
        fast(&graph, &weights).patterns(&images, &mut BufferPool::default(), &mut count).unwrap();
        let codes = slow_codes(&graph, &weights, &tensor(&images, 12));
        let mut expected = BTreeMap::<u64, i64>::new();
        for at in 0..codes[0].len() {
            let bits = codes.iter().enumerate();
            let pattern = bits.fold(0, |pattern, (i, code)| pattern | u64::from(code[at]) << i);
            *expected.entry(pattern).or_default() += 1;
        }
        assert_eq!(found.values().sum::<i64>(), codes[0].len() as i64);
        // A value near zero may get either bit by rounding.
        let patterns: BTreeSet<u64> = found.keys().chain(expected.keys()).copied().collect();
        let of = |counts: &BTreeMap<u64, i64>, pattern| counts.get(&pattern).copied().unwrap_or_default();
        let apart: i64 = patterns.iter().map(|&p| (of(&found, p) - of(&expected, p)).abs()).sum();
        assert!(apart <= 8, "{apart}");
    }
}

/// Number of bits of a code at 32x32, by the number of convolutions in a cell (16 channels, five cells per stage).
#[test]
fn a_cells_units_grow_with_its_convolutions() {
    let units = |arch: &str| {
        let graph = assemble(&Genotype::parse(arch, "arch").unwrap(), &network(16, 17, 32)).unwrap();
        let weights = Weights::init(&graph, 1).unwrap();
        fast(&graph, &weights).codes(&noise(2, 32), &mut BufferPool::default()).unwrap().units
    };
    assert_eq!(units("|skip_connect~0|+|none~0|none~1|+|none~0|avg_pool_3x3~1|none~2|"), 40_960);
    assert_eq!(units("|nor_conv_1x1~0|+|none~0|none~1|+|none~0|avg_pool_3x3~1|none~2|"), 184_320);
    assert_eq!(
        units(
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_1x1~0|nor_conv_1x1~1|nor_conv_1x1~2|"
        ),
        901_120
    );
}

#[test]
fn the_jacobian_is_the_gradient_by_the_images() {
    let graph = assemble(&Genotype::parse(ARCH, "arch").unwrap(), &network(6, 5, 12)).unwrap();
    let weights = Weights::init(&graph, 1).unwrap();
    let images = noise(4, 12);
    let found = fast(&graph, &weights).jacobian(&images).unwrap();
    let input = Var::from_tensor(&tensor(&images, 12)).unwrap();
    let logits =
        Executor::new(&graph, &weights).run(&[input.as_tensor().clone()], Mode::Train).unwrap().remove(0);
    let gradients = logits.sum_all().unwrap().backward().unwrap();
    let expected = gradients.get(&input).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let scale = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!(scale > 0.0);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-3 * scale, "{found} {expected}");
    }
}

/// Returns the executor's values of wires, `[N, C, H, W]`, with their gradients' history.
fn slow_features(
    graph: &Graph,
    weights: &Weights,
    images: &Tensor,
    wires: &[milenas_models::graph::Value],
) -> Vec<Tensor> {
    let names: Vec<&str> = wires.iter().map(|wire| graph.node(*wire).name.as_str()).collect();
    let mut found: Vec<Option<Tensor>> = vec![None; wires.len()];
    let mut see = |node: &milenas_models::graph::Node, out: &Tensor| {
        if let Some(at) = names.iter().position(|name| *name == node.name) {
            found[at] = Some(out.clone());
        }
    };
    Executor::new(graph, weights).run_observed(std::slice::from_ref(images), Mode::Train, &mut see).unwrap();
    found.into_iter().map(Option::unwrap).collect()
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    let scale = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!(scale > 0.0 && found.len() == expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < tolerance * scale, "{found} {expected}");
    }
}

/// Cells whose outputs are sums, read once by a skip connection, or concatenations whose channels fill no whole pack.
#[test]
fn features_are_those_of_the_executor() {
    let skip = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|";
    let darts = Genotype::named("DARTS_V2").unwrap();
    for (genotype, channels) in [
        (Genotype::parse(ARCH, "arch").unwrap(), 6),
        (Genotype::parse(skip, "arch").unwrap(), 17),
        (darts, 5),
    ] {
        let Trainable { graph, cells, .. } =
            Trainable::assemble(&genotype, &network(channels, 5, 12), false).unwrap();
        assert_eq!(cells.len(), 6);
        let weights = Weights::init(&graph, 1).unwrap();
        let images = noise(4, 12);
        let mut network = FusedNetwork::watching(&graph, &cells).unwrap();
        network.tensors_mut().load(&weights).unwrap();
        let expected = slow_features(&graph, &weights, &tensor(&images, 12), &cells);
        for (found, expected) in network.features(&images).unwrap().iter().zip(expected) {
            assert_eq!(expected.dims(), [4, found.channels, found.height, found.width]);
            let expected = expected.permute((0, 2, 3, 1)).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_close(&found.values, &expected, 1e-3);
        }
    }
}

/// The gradients at the stem's output, summed over positions, are those of its BatchNorm's weight and bias, which the
/// executor computes. Pulled back in several parts, they are the same.
#[test]
fn gradients_are_pulled_back_between_cells() {
    for (genotype, channels) in
        [(Genotype::parse(ARCH, "arch").unwrap(), 6), (Genotype::named("DARTS_V2").unwrap(), 5)]
    {
        let layers = if channels == 6 { 4 } else { 1 };
        let Trainable { graph, cells, .. } =
            Trainable::assemble(&genotype, &network(channels, layers, 12), false).unwrap();
        let weights = Weights::init(&graph, 1).unwrap();
        let images = noise(4, 12);
        let features = slow_features(&graph, &weights, &tensor(&images, 12), &cells);
        let mut rng = Rng::new(5, "signs");
        let pull = |wires: &[_], gradients: &[Vec<f32>]| {
            let mut network = FusedNetwork::watching(&graph, wires).unwrap();
            network.tensors_mut().load(&weights).unwrap();
            network.pull_back(&images, gradients).unwrap()
        };
        for (cell, feature) in cells.iter().zip(&features).skip(1) {
            let (n, c, h, w) = feature.dims4().unwrap();
            let gradient: Vec<f32> = (0..n * c * h * w).map(|_| rng.uniform(-1.0, 1.0)).collect();
            let found = pull(&[cells[0], *cell], std::slice::from_ref(&gradient)).remove(0);
            let by_pixel = Tensor::from_slice(&gradient, (n, h, w, c), &Device::Cpu).unwrap();
            let loss = (feature * by_pixel.permute((0, 3, 1, 2)).unwrap()).unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            let stem =
                features[0].permute((0, 2, 3, 1)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut sums = [vec![0.0; found.channels], vec![0.0; found.channels]];
            for (at, (gradient, value)) in found.values.iter().zip(stem).enumerate() {
                sums[0][at % found.channels] += gradient;
                sums[1][at % found.channels] += gradient * value;
            }
            for (name, sums) in ["stem.1.bias", "stem.1.weight"].into_iter().zip(&sums) {
                let expected = gradients.get(weights.get(name).unwrap()).unwrap().to_vec1::<f32>().unwrap();
                assert_close(sums, &expected, 2e-3);
            }
            // In two parts.
            if *cell == cells[cells.len() - 1] && layers > 1 {
                let zeros = features[1].elem_count();
                let last = pull(&[cells[0], cells[1], *cell], &[vec![0.0; zeros], gradient]).remove(1);
                let parts = pull(&[cells[0], cells[1]], &[last.values]);
                assert_close(&parts[0].values, &found.values, 1e-3);
            }
        }
        let error = FusedNetwork::watching(&graph, &cells[..2]).unwrap().pull_back(&images, &[vec![1.0]]);
        assert!(error.unwrap_err().to_string().contains("numbers of gradients of features"));
    }
}

fn scorer(channels: usize, layers: usize) -> Scorer {
    let batch =
        Batch { images: noise(8, 12).into(), labels: vec![0, 1, 2, 3, 0, 1, 2, 3], shape: [3, 12, 12] };
    Scorer::new(network(channels, layers, 12), batch, 1)
}

/// Synaptic flow of ones through absolute weights. The network is so shallow that the flow fits the executor's single precision.
#[test]
fn synflow_is_the_flow_through_all_weights() {
    let all_skip = "|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|";
    let genotype = Genotype::parse(all_skip, "arch").unwrap();
    let graph = assemble(&genotype, &network(3, 1, 12)).unwrap();
    let weights = Weights::init(&graph, 1).unwrap();
    let mut absolute = Weights::default();
    let mut patch = milenas_models::graph::Patch::new();
    for (value, node) in graph.values().filter(|(_, node)| matches!(node.op, Op::BatchNorm(_))) {
        let before = patch.tap(node.inputs[0]);
        patch.shunt(&graph, value, before).unwrap();
    }
    let mut bare = graph.clone();
    patch.apply(&mut bare, &mut weights.clone()).unwrap();
    for param in bare.params() {
        let value = weights.get(&param.name).unwrap().as_tensor();
        let value = if param.shape.len() > 1 { value.abs().unwrap() } else { value.zeros_like().unwrap() };
        absolute.insert(&param.name, value).unwrap();
    }
    let ones = Tensor::ones((1, 3, 12, 12), candle_core::DType::F32, &Device::Cpu).unwrap();
    let flow =
        Executor::new(&bare, &absolute).run(&[ones], Mode::Train).unwrap().remove(0).sum_all().unwrap();
    let gradients = flow.backward().unwrap();
    let of = |var: &Var| {
        let product = (var.as_tensor() * gradients.get(var).unwrap()).unwrap();
        f64::from(product.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap())
    };
    let expected: f64 = absolute.iter().filter(|(_, var)| var.dims().len() > 1).map(|(_, var)| of(var)).sum();
    let found = scorer(3, 1).score(&genotype, &[&Synflow]).unwrap()[0];
    assert!((found - expected.ln()).abs() < 1e-4, "{found} {}", expected.ln());
}

#[test]
fn deep_wide_cells_stay_in_range_and_dead_ones_score_last() {
    let metrics: [&dyn Score; 8] = [
        &Naswot,
        &Synflow,
        &GradNorm,
        &JacobCov,
        &AzExpressivity,
        &AzProgressivity,
        &AzTrainability,
        &Convolutions,
    ];
    let wide =
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|";
    let found = scorer(16, 26).score(&Genotype::parse(wide, "arch").unwrap(), &metrics).unwrap();
    assert!(found.iter().all(|x| x.is_finite()), "{found:?}");
    let dead = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|";
    let found = scorer(6, 5).score(&Genotype::parse(dead, "arch").unwrap(), &metrics).unwrap();
    assert_eq!(found[..2], [f64::NEG_INFINITY; 2]);
    assert_eq!(found[3..7], [f64::NEG_INFINITY; 4]);
    assert_eq!(found[7], 0.0);
    // A cell that is the identity cannot be trained.
    let identity = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|";
    let found = scorer(6, 5).score(&Genotype::parse(identity, "arch").unwrap(), &metrics).unwrap();
    assert!(found[4].is_finite() && found[5].is_finite() && found[6] == f64::NEG_INFINITY, "{found:?}");
}

#[test]
fn the_same_seed_gives_the_same_score() {
    let mut rng = Rng::new(0, "draw");
    let genotype = space::NASBENCH201.sample(&mut rng).unwrap();
    let metrics: [&dyn Score; 5] = [&Naswot, &GradNorm, &JacobCov, &AzExpressivity, &AzTrainability];
    let mut used = scorer(6, 5);
    used.score(&space::NASBENCH201.sample(&mut rng).unwrap(), &metrics).unwrap();
    assert_eq!(used.score(&genotype, &metrics).unwrap(), scorer(6, 5).score(&genotype, &metrics).unwrap());
}
