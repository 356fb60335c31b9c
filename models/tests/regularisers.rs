//! Tests of the regularisers of training: each equals the executor's automatic gradients, has exactly its documented
//! effect on a feature map, and has no effect in evaluation.
#![allow(clippy::unwrap_used)]

mod numbers;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use milenas_models::fused::{FusedNetwork, Regularisers};
use milenas_models::op::Op;
use milenas_models::{
    Executor, Genotype, Mode, NetworkConfig, Rng, Skeleton, Trainable, Weights, assemble, cost,
};

use numbers::{GRADIENTS, VALUES, assert_close, cross_entropy, flat};

/// Every primitive of the DARTS space.
const EVERY: &str = "Genotype(normal=[('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('sep_conv_3x3', 0), \
('sep_conv_5x5', 2), ('dil_conv_3x3', 3), ('dil_conv_5x5', 1), ('skip_connect', 2), ('none', 0)], \
normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('sep_conv_3x3', 0), \
('sep_conv_5x5', 1), ('dil_conv_3x3', 0), ('dil_conv_5x5', 1), ('skip_connect', 0), ('skip_connect', 3)], \
reduce_concat=[2, 3, 4, 5])";

const CONFIG: NetworkConfig = NetworkConfig {
    channels: 4,
    layers: 5,
    classes: 7,
    in_channels: 3,
    height: 32,
    width: 32,
    skeleton: Skeleton::Cifar,
};
const BATCH: usize = 3;
const LABELS: [u32; BATCH] = [0, 4, 6];

fn network(auxiliary: bool) -> Trainable {
    Trainable::assemble(&Genotype::parse(EVERY, "test").unwrap(), &CONFIG, auxiliary).unwrap()
}

fn images() -> Vec<f32> {
    let mut rng = Rng::new(5, "noise");
    (0..BATCH * 3 * 32 * 32).map(|_| rng.uniform(-1.0, 1.0)).collect()
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

/// Cross-entropy by its definition: a mixture of the label and the uniform distribution.
fn smoothed(logits: &Tensor, smoothing: f64) -> Tensor {
    let classes = 7u32;
    let hard = cross_entropy(logits, &tensor_of(&LABELS));
    let even: Vec<Tensor> =
        (0..classes).map(|class| cross_entropy(logits, &tensor_of(&[class; BATCH]))).collect();
    let even = Tensor::stack(&even, 0).unwrap().mean_all().unwrap();
    ((hard * (1.0 - smoothing)).unwrap() + (even * smoothing).unwrap()).unwrap()
}

fn tensor_of(labels: &[u32]) -> Tensor {
    Tensor::from_slice(labels, labels.len(), &Device::Cpu).unwrap()
}

/// Asserts that the fused passes and the executor agree in loss, gradients and statistics.
fn agrees(with_auxiliary: bool, extra: &Regularisers<'_>) {
    agrees_for(&network(with_auxiliary), with_auxiliary, extra, None);
}

/// Operations whose scope contains `dead` do not reach the output: the fused passes omit them, and their statistics are
/// not compared.
fn agrees_for(trainable: &Trainable, with_auxiliary: bool, extra: &Regularisers<'_>, dead: Option<&str>) {
    let weights = Weights::init(&trainable.graph, 3).unwrap();
    let mut fused = FusedNetwork::for_training(trainable).unwrap();
    fused.tensors_mut().load(&weights).unwrap();

    let factors = trainable.paths.iter().zip(extra.paths.chunks_exact(BATCH));
    let factors: HashMap<_, _> = factors.map(|(path, f)| (*path, tensor(f, &[BATCH, 1, 1, 1]))).collect();
    let executor = Executor::new(&trainable.graph, &weights).with_factors(factors);
    let results = executor.run(&[tensor(&images(), &[BATCH, 3, 32, 32])], Mode::Train).unwrap();
    let mut loss = smoothed(&results[0], extra.smoothing);
    if with_auxiliary {
        loss = (loss + (smoothed(&results[1], extra.smoothing) * extra.auxiliary).unwrap()).unwrap();
    }
    let expected = loss.backward().unwrap();
    let (found, _) = fused.train_step_with(&images(), &LABELS, extra).unwrap();
    assert_close("loss", &[found as f32], &flat(&loss), VALUES);
    let zeros = |name: &str| vec![0.0; weights.get(name).unwrap().elem_count()];
    let of = |name: &str| expected.get(weights.get(name).unwrap()).map_or_else(|| zeros(name), flat);
    let names: Vec<String> = fused.tensors().named().iter().map(|p| p.name.clone()).collect();
    assert_eq!(names.len(), weights.trainable().count());
    let expected: Vec<f32> = names.iter().flat_map(|n| of(n)).collect();
    let found: Vec<f32> = names.iter().flat_map(|n| fused.tensors().gradient(n).unwrap()).collect();
    assert_close("gradients", &found, &expected, GRADIENTS / 10.0);
    let stored = weights.detached().unwrap();
    fused.tensors().store(&stored).unwrap();
    let lives = |name: &str| dead.is_none_or(|dead| !name.contains(dead));
    for (name, expected) in weights.iter().filter(|(name, _)| name.contains("running") && lives(name)) {
        let (found, expected) = (flat(stored.get(name).unwrap()), flat(expected));
        // A mean of normalised values is 0 but for rounding.
        let scale = expected.iter().fold(1e-2f32, |scale, x| scale.max(x.abs()));
        let apart = found.iter().zip(&expected).fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
        assert!(apart <= VALUES * scale, "{name}: differs by {apart}, its largest is {scale}");
    }
}

/// Returns random factors 0 and 1/keep. Some paths keep all images.
fn factors(trainable: &Trainable) -> Vec<f32> {
    let mut rng = Rng::new(1, "factors");
    let draw = |_| if rng.chance(0.3) { 0.0 } else { 1.0 / 0.7 };
    (0..trainable.paths.len() * BATCH).map(draw).collect()
}

#[test]
fn smoothing_equals_the_executor() {
    agrees(false, &Regularisers { smoothing: 0.1, ..Default::default() });
}

#[test]
fn the_auxiliary_head_equals_the_executor() {
    agrees(true, &Regularisers { auxiliary: 0.4, ..Default::default() });
}

#[test]
fn dropped_paths_equal_the_executor() {
    let paths = factors(&network(false));
    agrees(false, &Regularisers { paths: &paths, ..Default::default() });
    // All paths of one image are dropped, and none of another.
    let paths: Vec<f32> = (0..paths.len()).map(|i| [0.0, 1.0, 1.25][i % BATCH]).collect();
    agrees(false, &Regularisers { paths: &paths, ..Default::default() });
}

/// A node with one edge is that edge's operation, which several others read.
#[test]
fn cells_of_nasbench201_equal_the_executor() {
    for (cell, dead) in [
        (
            "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|",
            None,
        ),
        ("|avg_pool_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|skip_connect~1|nor_conv_1x1~2|", None),
        ("|skip_connect~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|none~1|none~2|", Some(".ops.1.")),
        ("|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|nor_conv_3x3~0|none~1|none~2|", Some(".ops.0.")),
    ] {
        let trainable = Trainable::assemble(&Genotype::parse(cell, "test").unwrap(), &CONFIG, false).unwrap();
        agrees_for(&trainable, false, &Regularisers::default(), dead);
        let paths = factors(&trainable);
        agrees_for(&trainable, false, &Regularisers { paths: &paths, ..Default::default() }, dead);
    }
}

#[test]
fn all_together_equal_the_executor() {
    let paths = factors(&network(true));
    agrees(true, &Regularisers { smoothing: 0.1, auxiliary: 0.4, paths: &paths });
}

#[test]
fn paths_are_all_operations_but_identities() {
    let trainable = network(false);
    // A normal cell has six paths for eight operations; a strided skip is more than an identity.
    assert_eq!(trainable.paths.len(), 3 * 6 + 2 * 7);
    for path in &trainable.paths {
        let node = trainable.graph.node(*path);
        assert!(node.name.contains(".ops."), "{}", node.name);
        assert!(matches!(node.op, Op::BatchNorm(_) | Op::Pool2d(_)), "{}", node.name);
    }
}

/// A wire with factors 0, 1 and 2 becomes 0, itself and its double, image by image. The other images of the batch do
/// not change.
#[test]
fn a_factor_multiplies_its_image_alone() {
    let trainable = network(false);
    let weights = Weights::init(&trainable.graph, 3).unwrap();
    let x = tensor(&images(), &[BATCH, 3, 32, 32]);
    let path = trainable.paths[2];
    let name = &trainable.graph.node(path).name;
    let seen = |factors: HashMap<_, _>, mode| {
        let mut found = Vec::new();
        let executor = Executor::new(&trainable.graph, &weights).with_factors(factors);
        let observe = &mut |node: &milenas_models::graph::Node, t: &Tensor| {
            if node.name == *name {
                found = flat(t);
            }
        };
        executor.run_observed(std::slice::from_ref(&x), mode, observe).unwrap();
        found
    };
    let factors = || HashMap::from([(path, tensor(&[0.0, 1.0, 2.0], &[BATCH, 1, 1, 1]))]);
    let (whole, dropped) = (seen(HashMap::new(), Mode::Train), seen(factors(), Mode::Train));
    let each = whole.len() / BATCH;
    for (i, (whole, dropped)) in whole.chunks(each).zip(dropped.chunks(each)).enumerate() {
        assert!(whole.iter().zip(dropped).all(|(a, b)| *b == i as f32 * a), "image {i}");
    }
    assert_eq!(seen(HashMap::new(), Mode::Eval), seen(factors(), Mode::Eval));
}

#[test]
fn evaluation_knows_nothing_of_them() {
    let trainable = network(true);
    let weights = Weights::init(&trainable.graph, 3).unwrap();
    let mut fused = FusedNetwork::for_training(&trainable).unwrap();
    fused.tensors_mut().load(&weights).unwrap();
    let paths = factors(&trainable);
    fused
        .train_step_with(&images(), &LABELS, &Regularisers { smoothing: 0.1, auxiliary: 0.4, paths: &paths })
        .unwrap();
    fused.tensors().store(&weights).unwrap();

    let mut plain = FusedNetwork::new(&network(false).graph).unwrap();
    plain.tensors_mut().load(&weights).unwrap();
    assert_eq!(fused.predict(&images()).unwrap(), plain.predict(&images()).unwrap());
}

#[test]
fn what_the_network_lacks_is_refused() {
    let mut plain = FusedNetwork::for_training(&network(false)).unwrap();
    let wants = |network: &mut FusedNetwork, extra: &Regularisers<'_>| {
        network.train_step_with(&images(), &LABELS, extra).unwrap_err().to_string()
    };
    let message = wants(&mut plain, &Regularisers { auxiliary: 0.4, ..Default::default() });
    assert!(message.contains("auxiliary head"), "{message}");
    let message = wants(&mut plain, &Regularisers { paths: &[1.0; 5], ..Default::default() });
    assert!(message.contains("factors of paths") && message.contains("96"), "{message}");
    let small = NetworkConfig { height: 16, width: 16, ..CONFIG };
    let genotype = Genotype::named("DARTS_V2").unwrap();
    let message = Trainable::assemble(&genotype, &small, true).unwrap_err().to_string();
    assert!(
        message.contains("4x4") && message.contains("8x8 or more") && message.contains("help"),
        "{message}"
    );
}

#[test]
fn the_auxiliary_head_has_its_published_size() {
    let paper = NetworkConfig { channels: 36, layers: 20, classes: 10, ..CONFIG };
    for (name, with, without) in
        [("DARTS_V2", 3_825_768, 3_349_342), ("r101_e50_48_n7r3", 4_350_648, 3_874_222)]
    {
        let genotype = Genotype::named(name).unwrap();
        let trainable = Trainable::assemble(&genotype, &paper, true).unwrap();
        assert_eq!(cost(&trainable.graph).params, with, "{name}");
        assert_eq!(cost(&assemble(&genotype, &paper).unwrap()).params, without, "{name}");
    }
    // ImageNet: on the 4 x 192 channels of the cell at two thirds, convolutions, one norm and a classifier.
    let imagenet = NetworkConfig {
        channels: 48,
        layers: 14,
        classes: 1000,
        height: 224,
        width: 224,
        skeleton: Skeleton::ImageNet,
        ..CONFIG
    };
    let head = 768 * 128 + 2 * 128 + 128 * 768 * 2 * 2 + (768 + 1) * 1000;
    for (name, without) in [("DARTS_V2", 4_718_752), ("r101_e50_48_n7r3", 5_380_000)] {
        let trainable = Trainable::assemble(&Genotype::named(name).unwrap(), &imagenet, true).unwrap();
        assert_eq!(cost(&trainable.graph).params, without + head, "{name}");
    }
}
