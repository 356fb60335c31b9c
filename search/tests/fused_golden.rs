//! Comparison of the optimised supernet with PyTorch: outputs, losses, all gradients, statistics.
#![allow(clippy::unwrap_used, clippy::needless_range_loop)]

use std::collections::HashMap;
use std::path::Path;

use milenas_search::supernet::fused::{FusedSupernet, ImageBatch};
use milenas_search::supernet::wired::{CANDIDATES, Mixture};
use milenas_search::supernet::{GradRequest, SupernetConfig};
use safetensors::SafeTensors;

/// Largest difference of a value, relative to the tensor's largest element.
const VALUE: f32 = 1e-4;
/// Largest difference of a gradient, relative to the tensor's largest element.
const GRADIENT: f32 = 1e-3;

/// Configuration of the network in the golden file.
const CONFIG: SupernetConfig = SupernetConfig { channels: 4, layers: 3, ..SupernetConfig::paper(10) };

/// Tensors of the file by name, as bytes.
struct Golden(HashMap<String, Vec<u8>>);

impl Golden {
    fn load() -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/supernet.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        Golden(tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.data().to_vec())).collect())
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.0.keys().filter_map(|n| n.strip_prefix(prefix).map(str::to_string)).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.0[name].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn labels(&self, name: &str) -> Vec<u32> {
        self.0[name].chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
    }

    /// Returns the network in the state `prefix`, and its mixture.
    fn network(&self, prefix: &str) -> (FusedSupernet, Mixture) {
        let mut network = FusedSupernet::new(CONFIG);
        let mut names = self.names(&format!("{prefix}."));
        names.retain(|n| !n.starts_with("alphas") && n != "eval_logits" && n != "weight_grad_norm");
        assert_eq!(names.len(), network.tensors().named().len() + network.tensors().statistic_names().len());
        for name in names {
            network.tensors_mut().set(&name, &self.floats(&format!("{prefix}.{name}"))).unwrap();
        }
        (network, [0, 1].map(|kind| softmax(&self.floats(&format!("{prefix}.alphas.{kind}")))))
    }

    /// Compares the gradients of the alphas with those of the pass `which`.
    fn assert_alphas(&self, which: &str, mixture: &Mixture, gradient: &Mixture) {
        for (kind, (mixture, gradient)) in mixture.iter().zip(gradient).enumerate() {
            let name = format!("{which}.grad.alphas.{kind}");
            assert_close(&name, &softmax_gradient(mixture, gradient), &self.floats(&name), GRADIENT);
        }
    }
}

fn softmax(alphas: &[f32]) -> Vec<[f32; CANDIDATES]> {
    let row = |row: &[f32]| {
        let sum: f32 = row.iter().map(|x| x.exp()).sum();
        std::array::from_fn(|i| row[i].exp() / sum)
    };
    alphas.chunks_exact(CANDIDATES).map(row).collect()
}

/// Converts the gradient with respect to the softmax into that with respect to the alphas.
fn softmax_gradient(mixture: &[[f32; CANDIDATES]], gradient: &[[f32; CANDIDATES]]) -> Vec<f32> {
    let rows = mixture.iter().zip(gradient).flat_map(|(p, g)| {
        let mean: f32 = p.iter().zip(g).map(|(p, g)| p * g).sum();
        std::array::from_fn::<f32, CANDIDATES, _>(|i| p[i] * (g[i] - mean))
    });
    rows.collect()
}

fn assert_close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-12f32, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{name}: differs by {worst:e}, largest element {scale:e}");
}

fn images(pixels: &[f32]) -> ImageBatch<'_> {
    ImageBatch { pixels, height: 16, width: 16 }
}

#[test]
fn training_pass_equals_pytorch() {
    let golden = Golden::load();
    let (mut network, mixture) = golden.network("before");
    let want = GradRequest { weights: true, mixture: true };
    let (x, y) = (golden.floats("train.x"), golden.labels("train.y"));
    let found = network.evaluate(images(&x), &y, &mixture, want).unwrap();

    assert_close("loss", &[found.loss as f32], &golden.floats("train.loss"), VALUE);
    golden.assert_alphas("train", &mixture, &found.mixture_gradient);
    let names: Vec<String> = network.tensors().named().iter().map(|p| p.name.clone()).collect();
    for name in &names {
        let expected = golden.floats(&format!("train.grad.{name}"));
        assert_close(name, &network.tensors().gradient(name).unwrap(), &expected, GRADIENT);
    }
    for name in network.tensors().statistic_names() {
        let expected = golden.floats(&format!("after_one_forward.{name}"));
        assert_close(name, &network.tensors().get(name).unwrap(), &expected, VALUE);
    }

    let want = GradRequest { weights: false, mixture: true };
    let (x, y) = (golden.floats("valid.x"), golden.labels("valid.y"));
    let found = network.evaluate(images(&x), &y, &mixture, want).unwrap();
    assert_close("valid loss", &[found.loss as f32], &golden.floats("valid.loss"), VALUE);
    golden.assert_alphas("valid", &mixture, &found.mixture_gradient);
}

#[test]
fn evaluation_mode_equals_pytorch() {
    let golden = Golden::load();
    let (mut network, mixture) = golden.network("after_step_2");
    let x = golden.floats("train.x");
    let logits = network.predict(images(&x), &mixture).unwrap();
    assert_close("logits", &logits, &golden.floats("after_step_2.eval_logits"), VALUE);
}

#[test]
fn names_and_shapes_come_in_network_order() {
    let network = FusedSupernet::new(SupernetConfig::paper(10));
    let parameters = network.tensors().named();
    let count: usize = parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    assert_eq!(count, 1_930_618);
    assert_eq!(parameters[0].name, "stem.0.weight");
    assert_eq!(parameters[0].shape, [48, 3, 3, 3]);
    assert_eq!(parameters[3].name, "cells.0.pre0.1.weight");
    assert_eq!(parameters[5].name, "cells.0.edges.0.4.1.weight");
    assert_eq!(parameters.last().unwrap().name, "classifier.bias");
}
