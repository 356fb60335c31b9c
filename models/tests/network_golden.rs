//! Tests that derived networks equal PyTorch's: evaluation, training, and every gradient
//! (`tests/golden/make_golden.py`).
#![allow(clippy::unwrap_used)]

mod numbers;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use milenas_models::kernels::Implementation;
use milenas_models::{Executor, Genotype, Mode, NetworkConfig, Weights, assemble};

use numbers::{GRADIENTS, VALUES, cross_entropy, flat};

const CONFIG: NetworkConfig = NetworkConfig {
    channels: 4,
    layers: 4,
    classes: 10,
    in_channels: 3,
    height: 16,
    width: 16,
    skeleton: milenas_models::Skeleton::Cifar,
};

#[track_caller]
fn assert_close(name: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), expected.dims(), "{name}");
    numbers::assert_close(name, &flat(found), &flat(expected), tolerance);
}

fn check(file: &str, genotype: &str, form: Implementation) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(file);
    let golden: HashMap<String, Tensor> = safetensors::load(path, &Device::Cpu).unwrap();
    let graph = assemble(&Genotype::named(genotype).unwrap(), &CONFIG).unwrap();
    let mut weights = Weights::default();
    for (name, tensor) in &golden {
        if let Some(name) = name.strip_prefix("weights.") {
            weights.insert(name, tensor.clone()).unwrap();
        }
    }
    weights.check(&graph).unwrap();
    let executor = Executor::new(&graph, &weights).with_form(form);
    let input = [golden["x"].clone()];

    let logits = executor.run(&input, Mode::Eval).unwrap().remove(0);
    assert_close("eval.logits", &logits, &golden["eval.logits"], VALUES);

    let logits = executor.run(&input, Mode::Train).unwrap().remove(0);
    assert_close("train.logits", &logits, &golden["train.logits"], VALUES);
    let loss = cross_entropy(&logits, &golden["y"]);
    assert_close("train.loss", &loss, &golden["train.loss"], VALUES);
    let gradients = loss.backward().unwrap();
    let mut compared = 0;
    for (name, expected) in &golden {
        if let Some(name) = name.strip_prefix("train.grad.") {
            assert_close(name, gradients.get(weights.get(name).unwrap()).unwrap(), expected, GRADIENTS);
            compared += 1;
        }
    }
    let trainable = graph.params().filter(|p| p.role.is_trainable()).count();
    assert_eq!(compared, trainable);
}

#[test]
fn darts_v2() {
    check("network_darts_v2.safetensors", "DARTS_V2", Implementation::Optimised);
}

#[test]
fn darts_v2_by_slow_kernels() {
    check("network_darts_v2.safetensors", "DARTS_V2", Implementation::Reference);
}

#[test]
fn r101() {
    check("network_milenas_r101.safetensors", "r101_e50_48_n7r3", Implementation::Optimised);
}

#[test]
fn v2_r2_e100() {
    check("network_milenas_v2_r2_e100.safetensors", "V2_r2_e100", Implementation::Optimised);
}

#[test]
fn gdas2() {
    check("network_milenas_gdas2.safetensors", "GDAS_MIXED_LEVEL2", Implementation::Optimised);
}
