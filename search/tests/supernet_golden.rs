//! Comparison of the supernet with PyTorch: logits, losses, gradients, statistics, and the state after one and two MiLeNAS steps
//! (`tests/golden/make_golden.py`).
#![allow(clippy::unwrap_used)]

#[path = "../../models/tests/cuda/host.rs"]
mod host;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use milenas_models::Weights;
use milenas_models::space::{self, CellSpace, Space};
use milenas_search::config::Config;
use milenas_search::data::Batch;
use milenas_search::strategy::{StepContext, Stepper};
use milenas_search::supernet::cuda::CudaSupernet;
use milenas_search::supernet::reference::Reference;
use milenas_search::supernet::wired::WiredSupernet;
use milenas_search::supernet::{Alphas, GradRequest, Rows, Supernet, SupernetConfig};

/// Tolerance relative to the largest element, for float32 with other orders of summation.
const VALUES: f32 = 1e-4;
const GRADIENTS: f32 = 1e-3;

const ONE_NODE: CellSpace = CellSpace { nodes: 1, ..space::DARTS };
const CONFIG: SupernetConfig = SupernetConfig { channels: 4, layers: 3, ..SupernetConfig::paper(10) };

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn load() -> Self {
        Self::read("supernet")
    }

    fn read(name: &str) -> Self {
        // The variable is set by cargo, or by a script on another machine.
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
        let folder = Path::new(&folder).join("../tests/golden");
        Golden(safetensors::load(folder.join(format!("{name}.safetensors")), &Device::Cpu).unwrap())
    }

    fn flat(&self, name: &str) -> Vec<f32> {
        self.0[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn batch(&self, part: &str) -> Batch {
        let labels: Vec<i64> = self.0[&format!("{part}.y")].to_vec1().unwrap();
        Batch {
            images: self.flat(&format!("{part}.x")).into(),
            labels: labels.iter().map(|&y| y as u32).collect(),
            shape: [3, 16, 16],
        }
    }

    fn alphas(&self, prefix: &str) -> Alphas {
        let logits = [0, 1].map(|kind| self.flat(&format!("{prefix}alphas.{kind}"))).concat();
        let space: &dyn Space = if logits.len() == 224 { &space::DARTS } else { &ONE_NODE };
        let mut alphas = Alphas::zeros(space);
        alphas.update(|own| own.copy_from_slice(&logits));
        alphas
    }

    /// Returns weights and statistics under a prefix.
    fn weights(&self, prefix: &str) -> Weights {
        let mut weights = Weights::default();
        for (name, tensor) in &self.0 {
            match name.strip_prefix(prefix) {
                Some(name)
                    if !name.starts_with("alphas")
                        && !name.ends_with("_norm")
                        && !name.ends_with("logits") =>
                {
                    weights.insert(name, tensor.clone()).unwrap();
                }
                _ => {}
            }
        }
        weights
    }
}

#[track_caller]
fn assert_close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-4f32, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{name}: differs by {worst}, its largest is {scale}");
}

fn assert_state(net: &mut dyn Supernet, golden: &Golden, prefix: &str, only: &str) {
    let found = net.weights().unwrap();
    let mut compared = 0;
    for (name, expected) in golden.weights(prefix).iter().filter(|(name, _)| name.contains(only)) {
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let found = flat(found.get(name).unwrap().as_tensor());
        assert_close(&format!("{prefix}{name}"), &found, &flat(expected.as_tensor()), VALUES);
        compared += 1;
    }
    assert!(compared > 100);
}

fn assert_alphas(name: &str, found: &Rows, expected: &Rows, tolerance: f32) {
    let kinds = found.chunks(14).zip(expected.chunks(14));
    for (kind, (found, expected)) in kinds.enumerate() {
        assert_close(&format!("{name}alphas.{kind}"), &found.concat(), &expected.concat(), tolerance);
    }
}

/// Loads PyTorch's initial state into a network, and returns the golden file, the alphas and both batches.
fn begin(net: &mut dyn Supernet) -> (Golden, Alphas, [Batch; 2]) {
    let golden = Golden::load();
    net.load(&golden.weights("before.")).unwrap();
    let (alphas, batches) = (golden.alphas("before."), ["train", "valid"].map(|half| golden.batch(half)));
    (golden, alphas, batches)
}

fn one_pass(net: &mut dyn Supernet) {
    let (golden, alphas, [train, valid]) = begin(net);

    let found =
        net.evaluate(&train, &alphas.mixture(), GradRequest { weights: true, mixture: true }).unwrap();
    assert_close("train.loss", &[found.loss as f32], &golden.flat("train.loss"), VALUES);
    let gradient = alphas.gradient(&found.mixture_gradient);
    assert_alphas("train.grad.", &gradient.operations, &golden.alphas("train.grad.").operations, GRADIENTS);
    let mut names = net.weights().unwrap();
    names.retain(|name| !name.ends_with("running_mean") && !name.ends_with("running_var"));
    let names: Vec<String> = names.iter().map(|(name, _)| name.to_string()).collect();
    let mut compared = 0;
    for name in &names {
        let found = net.gradient(name).unwrap();
        assert_close(name, &found, &golden.flat(&format!("train.grad.{name}")), GRADIENTS);
        compared += 1;
    }
    assert_eq!(
        compared,
        golden.0.keys().filter(|k| k.starts_with("train.grad.") && !k.contains("alphas")).count()
    );
    assert_state(net, &golden, "after_one_forward.", "running");

    // PyTorch's validation pass follows the training pass at the same weights; running statistics do not affect it.
    let found =
        net.evaluate(&valid, &alphas.mixture(), GradRequest { weights: false, mixture: true }).unwrap();
    assert_close("valid.loss", &[found.loss as f32], &golden.flat("valid.loss"), VALUES);
    let gradient = alphas.gradient(&found.mixture_gradient);
    assert_alphas("valid.grad.", &gradient.operations, &golden.alphas("valid.grad.").operations, GRADIENTS);
}

fn two_steps(net: &mut dyn Supernet) {
    let (golden, mut alphas, [train, valid]) = begin(net);
    let config = Config::resolve("paper", None, &[]).unwrap().search;
    let mut stepper = Stepper::default();
    for step in 1..=2 {
        let at = StepContext { seed: 0, epoch: 0, step, lr: 0.025 };
        let seen = stepper.step(net, &mut alphas, [&train, &valid], &config, at).unwrap();
        let prefix = format!("after_step_{step}.");
        let norm = golden.flat(&format!("{prefix}weight_grad_norm"));
        assert_close("norm", &[seen.gradient_norm as f32], &norm, GRADIENTS);
        assert_alphas(&prefix, &alphas.operations, &golden.alphas(&prefix).operations, VALUES);
        assert_state(net, &golden, &prefix, "");
    }
    let logits = net.predict(&train, &alphas.mixture()).unwrap();
    assert_close("eval_logits", &logits, &golden.flat("after_step_2.eval_logits"), GRADIENTS);
}

/// Checks a step of two passes: the alphas move as in three passes, and the weights by the training pass's gradients at the old alphas.
fn a_step_of_two_passes(net: &mut dyn Supernet) {
    let (golden, mut alphas, [train, valid]) = begin(net);
    let config = Config::resolve("paper", None, &["search.order=two-pass".into()]).unwrap().search;
    let at = StepContext { seed: 0, epoch: 0, step: 0, lr: 0.025 };
    Stepper::default().step(net, &mut alphas, [&train, &valid], &config, at).unwrap();
    assert_alphas("alphas.", &alphas.operations, &golden.alphas("after_step_1.").operations, VALUES);

    let prefix = "train.grad.";
    let names = golden.0.keys().filter_map(|key| key.strip_prefix(prefix)).filter(|n| !n.contains("alphas"));
    let names: Vec<&str> = names.collect();
    let squares = |name: &&str| -> f64 {
        golden.flat(&format!("{prefix}{name}")).iter().map(|g| f64::from(*g).powi(2)).sum()
    };
    let norm = names.iter().map(squares).sum::<f64>().sqrt();
    let scale = (config.weights.clip / (norm + 1e-6)).min(1.0);
    let weights = net.weights().unwrap();
    for name in names {
        let before = golden.flat(&format!("before.{name}"));
        let gradient = golden.flat(&format!("{prefix}{name}"));
        let step = |(w, g): (&f32, &f32)| {
            let (w, g) = (f64::from(*w), f64::from(*g));
            (w - 0.025 * (scale * g + config.weights.decay * w)) as f32
        };
        let expected: Vec<f32> = before.iter().zip(&gradient).map(step).collect();
        let found: Vec<f32> = weights.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_close(name, &found, &expected, VALUES);
        assert!(found != before, "{name} does not move");
    }
}

fn reference() -> Reference {
    Reference::new(&CONFIG, 16, 16, 0).unwrap()
}

#[test]
fn the_reference_in_one_pass() {
    one_pass(&mut reference());
}

#[test]
fn the_reference_in_two_steps() {
    two_steps(&mut reference());
}

#[test]
fn the_fused_supernet_in_one_pass() {
    one_pass(&mut WiredSupernet::new(CONFIG).unwrap());
}

#[test]
fn the_fused_supernet_in_two_steps() {
    two_steps(&mut WiredSupernet::new(CONFIG).unwrap());
}

#[test]
fn the_reference_in_a_step_of_two_passes() {
    a_step_of_two_passes(&mut reference());
}

#[test]
fn the_fused_supernet_in_a_step_of_two_passes() {
    a_step_of_two_passes(&mut WiredSupernet::new(CONFIG).unwrap());
}

/// Runs a test with the GPU kernels, on the host or on the GPU named by `MILENAS_TEST_DEVICE`.
fn on_devices(threads: &[usize], run: fn(&mut dyn Supernet)) {
    for device in host::devices(threads) {
        run(&mut CudaSupernet::new(CONFIG, device).unwrap());
    }
}

#[test]
fn the_kernels_of_a_gpu_in_one_pass() {
    on_devices(&[32], one_pass);
}

#[test]
fn the_kernels_of_a_gpu_in_two_steps() {
    on_devices(&[32], two_steps);
}

#[test]
fn the_kernels_of_a_gpu_in_a_step_of_two_passes() {
    on_devices(&[32], a_step_of_two_passes);
}

#[test]
fn the_papers_supernet_has_its_size() {
    let mut net = Reference::new(&SupernetConfig::paper(10), 32, 32, 0).unwrap();
    let weights = net.weights().unwrap();
    assert_eq!(weights.trainable().map(|(_, v)| v.elem_count()).sum::<usize>(), 1_930_618);
    assert_eq!(Alphas::init(&space::DARTS, 0).flat().len(), 224);
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Compares with finite differences of the whole expression, by PyTorch in float64 on a tiny supernet
/// (`tests/golden/make_unrolled.py`).
#[test]
fn second_order_gradients_equal_finite_differences_of_the_whole_expression() {
    let golden = Golden::read("unrolled_tiny");
    let config = SupernetConfig { channels: 2, layers: 1, classes: 4, space: &ONE_NODE, ..CONFIG };
    let batches = ["train", "valid"].map(|half| Batch { shape: [3, 8, 8], ..golden.batch(half) });
    let mut weights = Weights::default();
    let ours = ["stem.", "cells.", "classifier."];
    for (name, tensor) in golden.0.iter().filter(|(name, _)| ours.iter().any(|part| name.starts_with(part))) {
        weights.insert(name, tensor.clone()).unwrap();
    }
    let mut net = WiredSupernet::new(config).unwrap();
    Supernet::load(&mut net, &weights).unwrap();
    let alphas = golden.alphas("");
    for (strategy, name, expected) in [
        ("darts-2nd", "darts", 0.9999..1.1),
        ("milenas-2nd", "milenas", 0.9999..1.1),
        ("darts-1st", "darts", -1.0..0.995),
        ("milenas", "milenas", -1.0..0.95),
    ] {
        let mut config = Config::resolve("paper", None, &[]).unwrap().search;
        (config.strategy, config.lambda) = (strategy.into(), 0.5);
        let at = StepContext { seed: 0, epoch: 0, step: 0, lr: 0.1 };
        let [train, valid] = &batches;
        let found = Stepper::default().gradient(&mut net, &alphas, [train, valid], &config, at).unwrap();
        let cosine = cosine(&found, &golden.flat(&format!("whole.{name}")));
        assert!(expected.contains(&cosine), "{strategy}: cosine {cosine}");
    }
}

/// Compares with PyTorch in float64 (`tests/golden/make_unrolled.py`). The tests of `strategy::rule` compare the formula itself with
/// finite differences, on a smooth problem; the losses here have many kinks.
#[test]
fn second_order_gradients_equal_pytorch() {
    let (golden, unrolled) = (Golden::load(), Golden::read("unrolled"));
    let (train, valid) = (golden.batch("train"), golden.batch("valid"));
    for (strategy, name) in [("darts-1st", "darts"), ("darts-2nd", "darts"), ("milenas-2nd", "milenas")] {
        let mut config = Config::resolve("paper", None, &[]).unwrap().search;
        let (mut net, mut stepper) = (WiredSupernet::new(CONFIG).unwrap(), Stepper::default());
        Supernet::load(&mut net, &golden.weights("before.")).unwrap();
        let mut alphas = golden.alphas("before.");
        // The first step is that of the golden file, and gives the velocities.
        let at = StepContext { seed: 0, epoch: 0, step: 0, lr: 0.025 };
        stepper.step(&mut net, &mut alphas, [&train, &valid], &config, at).unwrap();

        (config.strategy, config.lambda) = (strategy.into(), 0.5);
        let before = Supernet::weights(&mut net).unwrap();
        let at = StepContext { lr: 0.1, ..at };
        let found = stepper.gradient(&mut net, &alphas, [&train, &valid], &config, at).unwrap();
        let expected = [0, 1].map(|kind| unrolled.flat(&format!("{name}.{kind}"))).concat();
        let cosine = cosine(&found, &expected);
        match strategy {
            "darts-1st" => assert!(cosine < 0.9, "the unrolled step matters here: cosine {cosine}"),
            _ => assert!(cosine > 0.9999, "{strategy}: cosine {cosine}"),
        }
        let after = Supernet::weights(&mut net).unwrap();
        for (name, tensor) in before.trainable() {
            let flat = |t: &candle_core::Var| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(flat(tensor) == flat(after.get(name).unwrap()), "{name} moved");
        }
    }
}
