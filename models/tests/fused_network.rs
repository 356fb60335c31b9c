//! Tests of the fused network against PyTorch's golden values, and against the executor where there are none: every
//! primitive of the DARTS space, odd sizes, batch 1 and compiled graphs, with every instruction set and any number of
//! threads.
#![allow(clippy::unwrap_used)]

mod numbers;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use milenas_models::fused::{FusedNetwork, Precision};
use milenas_models::graph::{Builder, Fact, Value};
use milenas_models::kernels::cpu::Level;
use milenas_models::op::{Add, BatchNorm, Concat, Conv2d, Flatten, GlobalAvgPool, Linear, Padding, Relu};
use milenas_models::{Executor, Genotype, Graph, Mode, NetworkConfig, Rng, Skeleton, Weights, assemble};

use numbers::{GRADIENTS, VALUES, assert_close, cross_entropy, flat};

fn labels(t: &Tensor) -> Vec<u32> {
    t.to_dtype(candle_core::DType::U32).unwrap().to_vec1().unwrap()
}

fn golden(file: &str, genotype: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(file);
    let golden: HashMap<String, Tensor> = safetensors::load(path, &Device::Cpu).unwrap();
    let config = NetworkConfig {
        channels: 4,
        layers: 4,
        classes: 10,
        in_channels: 3,
        height: 16,
        width: 16,
        skeleton: Default::default(),
    };
    let graph = assemble(&Genotype::named(genotype).unwrap(), &config).unwrap();
    let mut weights = Weights::default();
    for (name, tensor) in &golden {
        if let Some(name) = name.strip_prefix("weights.") {
            weights.insert(name, tensor.clone()).unwrap();
        }
    }
    for level in Level::available() {
        let mut network = FusedNetwork::with_level(&graph, level).unwrap();
        network.tensors_mut().load(&weights).unwrap();
        let x = flat(&golden["x"]);
        let logits = network.predict(&x).unwrap();
        assert_close("eval.logits", &logits, &flat(&golden["eval.logits"]), VALUES);
        let (loss, _) = network.train_step(&x, &labels(&golden["y"])).unwrap();
        assert_close("train.loss", &[loss as f32], &flat(&golden["train.loss"]), VALUES);
        let mut compared = 0;
        for (name, expected) in &golden {
            if let Some(name) = name.strip_prefix("train.grad.") {
                assert_close(name, &network.tensors().gradient(name).unwrap(), &flat(expected), GRADIENTS);
                compared += 1;
            }
        }
        assert_eq!(compared, network.tensors().named().len());
    }
}

#[test]
fn goldens() {
    golden("network_darts_v2.safetensors", "DARTS_V2");
    golden("network_milenas_r101.safetensors", "r101_e50_48_n7r3");
    golden("network_milenas_v2_r2_e100.safetensors", "V2_r2_e100");
    golden("network_milenas_gdas2.safetensors", "GDAS_MIXED_LEVEL2");
}

/// Every primitive of the DARTS space, a node that is concatenated twice, and nodes that are concatenated out of
/// order.
const EVERY: &str = "Genotype(normal=[('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('sep_conv_3x3', 0), \
('sep_conv_5x5', 2), ('dil_conv_3x3', 3), ('dil_conv_5x5', 1), ('skip_connect', 2), ('none', 0)], \
normal_concat=[3, 2, 5, 4], reduce=[('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('sep_conv_3x3', 0), \
('sep_conv_5x5', 1), ('dil_conv_3x3', 0), ('dil_conv_5x5', 1), ('skip_connect', 0), ('skip_connect', 3)], \
reduce_concat=[2, 3, 4, 5])";

fn every(size: [usize; 2]) -> Graph {
    let genotype = Genotype::parse(EVERY, "test").unwrap();
    let [height, width] = size;
    let config = NetworkConfig {
        channels: 6,
        layers: 5,
        classes: 7,
        in_channels: 3,
        height,
        width,
        skeleton: Default::default(),
    };
    assemble(&genotype, &config).unwrap()
}

/// Returns weights with non-trivial running statistics and affine parts.
fn weights(graph: &Graph) -> Weights {
    let weights = Weights::init(graph, 3).unwrap();
    for param in graph.params() {
        let mut rng = Rng::new(4, &param.name);
        let move_it = |w: &mut [f32]| w.iter_mut().for_each(|w| *w = w.abs() + rng.uniform(0.0, 0.3));
        if param.shape.len() == 1 {
            weights.modify(&param.name, move_it).unwrap();
        }
    }
    weights
}

fn noise(count: usize) -> Vec<f32> {
    let mut rng = Rng::new(5, "noise");
    (0..count).map(|_| rng.uniform(-1.0, 1.0)).collect()
}

fn equals_executor(graph: &Graph, size: [usize; 2], batch: usize, level: Level) {
    let weights = weights(graph);
    let x = noise(batch * 3 * size[0] * size[1]);
    let y: Vec<u32> = (0..batch as u32).map(|i| i % 7).collect();
    let tensor = Tensor::from_slice(&x, (batch, 3, size[0], size[1]), &Device::Cpu).unwrap();
    let mut network = FusedNetwork::with_level(graph, level).unwrap();
    network.tensors_mut().load(&weights).unwrap();

    let executor = Executor::new(graph, &weights);
    let expected = executor.run(std::slice::from_ref(&tensor), Mode::Eval).unwrap().remove(0);
    assert_close("logits", &network.predict(&x).unwrap(), &flat(&expected), VALUES);

    let logits = executor.run(&[tensor], Mode::Train).unwrap().remove(0);
    let loss = cross_entropy(&logits, &Tensor::from_slice(&y, batch, &Device::Cpu).unwrap());
    let expected = loss.backward().unwrap();
    let (found, _) = network.train_step(&x, &y).unwrap();
    assert_close("loss", &[found as f32], &flat(&loss), VALUES);
    // All gradients are compared together: in a feature map of a few pixels, a norm cancels most of some gradients.
    let of = |name: &str| {
        let var = weights.get(name).unwrap();
        expected.get(var).map_or_else(|| vec![0.0; var.elem_count()], flat)
    };
    let names: Vec<String> = network.tensors().named().iter().map(|p| p.name.clone()).collect();
    let expected: Vec<f32> = names.iter().flat_map(|n| of(n)).collect();
    // A result without readers is not computed.
    let unread = |norm: &str| {
        names.contains(&format!("{norm}.weight")) && of(&format!("{norm}.weight")).iter().all(|g| *g == 0.0)
    };
    let found: Vec<f32> = names.iter().flat_map(|n| network.tensors().gradient(n).unwrap()).collect();
    assert_close("gradients", &found, &expected, GRADIENTS / 10.0);
    // The executor has updated the running statistics of `weights`.
    let stored = weights.detached().unwrap();
    network.tensors().store(&stored).unwrap();
    for (name, expected) in weights.iter() {
        let Some((norm, _)) = name.split_once(".running") else { continue };
        if unread(norm) {
            continue;
        }
        assert_close(name, &flat(stored.get(name).unwrap()), &flat(expected), VALUES);
    }
}

#[test]
fn every_primitive_equals_the_executor() {
    for (size, batch) in [([16, 16], 3), ([13, 18], 2), ([12, 15], 1)] {
        equals_executor(&every(size), size, batch, Level::best());
    }
}

/// Cells of NAS-Bench-201: every primitive, convolutions without readers, and cells that are zero.
#[test]
fn dense_cells_equal_the_executor() {
    for arch in [
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|",
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|",
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
        "|none~0|+|nor_conv_1x1~0|none~1|+|none~0|none~1|none~2|",
    ] {
        let genotype = Genotype::parse(arch, "test").unwrap();
        for (size @ [height, width], batch, channels) in [([16, 16], 3, 6), ([9, 14], 2, 18), ([12, 1], 4, 4)]
        {
            let config = NetworkConfig {
                channels,
                layers: 5,
                classes: 7,
                in_channels: 3,
                height,
                width,
                skeleton: Skeleton::Cifar,
            };
            let graph = assemble(&genotype, &config).unwrap();
            Level::available().into_iter().for_each(|level| equals_executor(&graph, size, batch, level));
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let graph = every([16, 12]);
    let weights = weights(&graph);
    let x = noise(5 * 3 * 16 * 12);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut network = FusedNetwork::new(&graph).unwrap();
            network.tensors_mut().load(&weights).unwrap();
            let loss = network.train_step(&x, &[0, 1, 2, 3, 4]).unwrap();
            let names: Vec<String> = network.tensors().named().iter().map(|p| p.name.clone()).collect();
            let gradients: Vec<_> = names.iter().map(|n| network.tensors().gradient(n).unwrap()).collect();
            // One image, two, and all: if there are more threads than images, several threads share one image.
            let predictions = [1, 2, 5].map(|images| network.predict(&x[..images * 3 * 16 * 12]).unwrap());
            network.prepare_evaluation(Precision::Bf16);
            let rounded = [1, 5].map(|images| network.infer(&x[..images * 3 * 16 * 12]).unwrap());
            (loss, gradients, predictions, rounded)
        })
    };
    let one = run(1);
    (2..5).for_each(|threads| assert_eq!(run(threads), one));
}

/// Largest difference of logits between bfloat16 and float32, relative to their range.
const BF16: f32 = 0.03;
/// Largest relative difference between processors that multiply pairs and those that multiply rounded values. The
/// order of summation differs, which may change the rounding of an operand of the next convolution.
const BF16_LEVELS: f32 = 0.01;

#[test]
fn bf16_is_near_float32_on_every_level() {
    let graph = every([16, 16]);
    let weights = weights(&graph);
    let x = noise(4 * 3 * 256);
    let tell = |level: Level, precision: Precision| -> Vec<f32> {
        let mut network = FusedNetwork::with_level(&graph, level).unwrap();
        network.tensors_mut().load(&weights).unwrap();
        network.prepare_evaluation(precision);
        network.infer(&x).unwrap().into_iter().flat_map(|found| found.logits).collect()
    };
    let far = |a: &[f32], b: &[f32]| {
        let range = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / range
    };
    let exact = tell(Level::best(), Precision::Float32);
    let first = tell(Level::best(), Precision::Bf16);
    assert!(far(&exact, &first) > 1e-5, "nothing was rounded");
    for level in Level::available() {
        let found = tell(level, Precision::Bf16);
        assert!(far(&exact, &found) < BF16, "{level:?}: {} of the range", far(&exact, &found));
        assert!(far(&first, &found) < BF16_LEVELS, "{level:?}: {} of the range", far(&first, &found));
    }
}

#[test]
fn evaluation_before_preparation_is_refused() {
    let graph = every([16, 16]);
    let refused = FusedNetwork::new(&graph).unwrap().infer(&noise(3 * 256)).unwrap_err().to_string();
    assert!(refused.contains("prepare_evaluation"), "{refused}");
}

#[test]
fn evaluation_after_a_change_without_preparation_is_refused() {
    let graph = every([16, 16]);
    let weights = weights(&graph);
    let mut network = FusedNetwork::for_evaluation(&graph, &weights, Precision::Float32).unwrap().unwrap();
    network.infer(&noise(3 * 256)).unwrap();
    network.tensors_mut().load(&weights).unwrap();
    assert!(network.infer(&noise(3 * 256)).is_err());
    network.prepare_evaluation(Precision::Float32);
    network.infer(&noise(3 * 256)).unwrap();
}

/// Returns a classifier on the result of `body`, whose input is a stem's 40 channels.
fn behind_a_stem(body: impl FnOnce(&mut Builder, [Value; 2]) -> milenas_models::Result<Value>) -> Graph {
    let mut b = Builder::new();
    let image = b.input("image", Fact::image(3, 6, 6)).unwrap();
    let stem = normed(&mut b, "stem", Conv2d::new(3, 40, 3), image).unwrap();
    let map = body(&mut b, [image, stem]).unwrap();
    let pooled = b.wire("pool", GlobalAvgPool, &[map]).unwrap();
    let flat = b.wire("flat", Flatten { axis: 1 }, &[pooled]).unwrap();
    let logits = b.wire("head", Linear { in_features: 40, out_features: 2, bias: true }, &[flat]).unwrap();
    b.output("logits", logits);
    b.finish().unwrap()
}

fn normed(b: &mut Builder, name: &str, conv: Conv2d, from: Value) -> milenas_models::Result<Value> {
    let channels = conv.out_channels;
    let padding = Padding::all(conv.kernel[0] / 2);
    let conv = b.wire(&format!("{name}.conv"), Conv2d { padding, ..conv }, &[from])?;
    b.wire(&format!("{name}.norm"), BatchNorm::new(channels, true), &[conv])
}

#[test]
fn a_sum_of_joined_maps_with_filling_between_is_refused() {
    for each in [[20, 20], [16, 24]] {
        let graph = behind_a_stem(|b, [_, stem]| {
            let x = b.wire("relu", Relu, &[stem])?;
            let [first, second] = each.map(|channels| Conv2d::pointwise(40, channels));
            let parts = [normed(b, "first", first, x)?, normed(b, "second", second, x)?];
            let joined = b.wire("joined", Concat { axis: 1 }, &parts)?;
            let other = normed(b, "other", Conv2d::pointwise(40, 40), x)?;
            b.wire("sum", Add, &[joined, other])
        });
        assert!(FusedNetwork::new(&graph).is_err(), "{each:?}");
    }
}

#[test]
fn a_second_stem_is_refused() {
    let graph = behind_a_stem(|b, [image, stem]| {
        let other = normed(b, "other", Conv2d::new(3, 40, 3), image)?;
        b.wire("sum", Add, &[stem, other])
    });
    let refused = FusedNetwork::new(&graph).err().unwrap();
    assert!(refused.contains("two stems"), "{refused}");
}

#[test]
fn a_second_batch_is_like_the_first() {
    let graph = every([16, 16]);
    let weights = weights(&graph);
    let (x, y) = (noise(4 * 3 * 256), [0, 1, 2, 3]);
    let mut fresh = FusedNetwork::new(&graph).unwrap();
    fresh.tensors_mut().load(&weights).unwrap();
    let expected = fresh.train_step(&x, &y).unwrap();
    let mut used = FusedNetwork::new(&graph).unwrap();
    used.tensors_mut().load(&weights).unwrap();
    used.train_step(&noise(6 * 3 * 256), &[0; 6]).unwrap();
    used.predict(&x).unwrap();
    used.tensors_mut().load(&weights).unwrap();
    assert_eq!(used.train_step(&x, &y).unwrap(), expected);
    for named in fresh.tensors().named() {
        assert_eq!(
            used.tensors().gradient(&named.name).unwrap(),
            fresh.tensors().gradient(&named.name).unwrap(),
            "{}",
            named.name
        );
    }
}

#[test]
fn what_has_no_kernel_is_refused_by_name() {
    let genotype = Genotype::named("NASNet").unwrap();
    let config = NetworkConfig {
        channels: 4,
        layers: 3,
        classes: 2,
        in_channels: 3,
        height: 8,
        width: 8,
        skeleton: Default::default(),
    };
    let refused = FusedNetwork::new(&assemble(&genotype, &config).unwrap()).err().unwrap();
    assert!(refused.contains("kernel [7, 7]"), "{refused}");
}
