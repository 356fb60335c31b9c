//! Partial channels: the optimised supernet equals the reference implementation, for every way in which images share a pack.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::Device;
use milenas_models::{Rng, Weights, space};
use milenas_search::data::Batch;
use milenas_search::relaxation::{Gumbel, PassMixture, Relaxation, SearchProgress, Softmax};
use milenas_search::supernet::reference::Reference;
use milenas_search::supernet::wired::WiredSupernet;
use milenas_search::supernet::{Alphas, GradRequest, Supernet, SupernetConfig};

const BOTH: GradRequest = GradRequest { weights: true, mixture: true };

fn config(channels: usize, partial: usize) -> SupernetConfig {
    SupernetConfig { channels, layers: 4, in_channels: 2, partial, ..SupernetConfig::paper(4) }
}

fn batch(images: usize, height: usize, width: usize) -> Batch {
    let mut rng = Rng::new(3, "batch");
    let pixels: Vec<f32> = (0..images * 2 * height * width).map(|_| rng.normal()).collect();
    let labels = (0..images).map(|_| rng.below(4) as u32).collect();
    Batch { images: pixels.into(), labels, shape: [2, height, width] }
}

fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-6f64, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{what}: differs by {worst:e}, largest element {scale:e}");
}

fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

fn sample(
    relaxation: &dyn Relaxation,
    alphas: &Alphas,
    config: &SupernetConfig,
    seed: u64,
) -> Box<dyn PassMixture> {
    // The temperature of Gumbel samples is 1.
    let end = SearchProgress { epoch: 1, epochs: 1 };
    relaxation.sample(alphas, config, end, &mut || Rng::new(seed, "draw"))
}

/// Runs several batches through the same networks, and compares the results.
fn compare(config: SupernetConfig, relaxation: &dyn Relaxation, sizes: &[(usize, usize, usize)]) {
    let (_, height, width) = sizes[0];
    let mut reference = Reference::new(&config, height, width, 1).unwrap();
    let mut fused = WiredSupernet::new(config).unwrap();
    Supernet::load(&mut fused, &Supernet::weights(&mut reference).unwrap()).unwrap();
    let mut alphas = Alphas::init(&space::DARTS, 7).with_edges(7);
    alphas.update(|flat| flat.iter_mut().for_each(|x| *x *= 500.0));
    for (round, &(images, height, width)) in sizes.iter().enumerate() {
        let batch = batch(images, height, width);
        let pass = sample(relaxation, &alphas, &config, round as u64);
        let sites = pass.sites(&config);
        let what = format!("{config:?}, {}, round {round}", relaxation.source());
        let expected = reference.evaluate_sites(&batch, &sites, BOTH).unwrap();
        let found = Supernet::evaluate_sites(&mut fused, &batch, &sites, BOTH).unwrap();
        close(&format!("loss of {what}"), &[found.loss], &[expected.loss], 1e-4);
        let [found, expected] =
            [found, expected].map(|of| pass.gradient(&alphas, &config, &of.mixture_gradient).flat());
        close(&format!("alphas of {what}"), &f64s(&found), &f64s(&expected), 2e-3);
        let norm = Supernet::gradient_norm(&mut reference).unwrap();
        let own = Supernet::gradient_norm(&mut fused).unwrap();
        assert!((own / norm - 1.0).abs() < 1e-3, "{what}: norm {own}, expected {norm}");
        for (name, _) in reference.weights().unwrap().trainable() {
            let [found, expected] = [fused.gradient(name).unwrap(), reference.gradient(name).unwrap()];
            let worst = found.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(f64::from(worst) < 1e-4 * norm, "{what}, {name}: differs by {worst:e} of {norm}");
        }
        let logits = Supernet::predict_sites(&mut fused, &batch, &sites).unwrap();
        close(&what, &f64s(&logits), &f64s(&reference.predict_sites(&batch, &sites).unwrap()), 1e-3);
    }
}

/// Compares both implementations with PyTorch in float64 (`tests/golden/make_partial.py`).
#[test]
fn both_implementations_equal_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/partial.safetensors");
    let golden = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let flat = |name: &str| -> Vec<f32> { golden[name].flatten_all().unwrap().to_vec1().unwrap() };
    let kinds = |name: &str| [0, 1].map(|kind| flat(&format!("{name}.{kind}"))).concat();
    let config = SupernetConfig { channels: 8, layers: 3, partial: 4, ..SupernetConfig::paper(10) };
    let mut alphas = Alphas::init(&space::DARTS, 0).with_edges(0);
    alphas.update(|logits| logits.copy_from_slice(&[kinds("operations"), kinds("edges")].concat()));
    let labels: Vec<i64> = golden["y"].to_vec1().unwrap();
    let labels = labels.into_iter().map(|y| y as u32).collect();
    let batch = Batch { images: flat("x").into(), labels, shape: [3, 16, 16] };
    let mut weights = Weights::default();
    for (name, tensor) in &golden {
        if let Some(name) = name.strip_prefix("weights.") {
            weights.insert(name, tensor.clone()).unwrap();
        }
    }
    let mut reference = Reference::new(&config, 16, 16, 0).unwrap();
    let mut fused = WiredSupernet::new(config).unwrap();
    let nets: [&mut dyn Supernet; 2] = [&mut reference, &mut fused];
    for net in nets {
        net.load(&weights).unwrap();
        let found = net.evaluate(&batch, &alphas.mixture(), BOTH).unwrap();
        close("loss", &[found.loss], &f64s(&flat("loss")), 1e-4);
        let gradient = alphas.gradient(&found.mixture_gradient);
        close("operations", &f64s(&gradient.operations.concat()), &f64s(&kinds("grad.operations")), 1e-3);
        close("edges", &f64s(&gradient.edges.unwrap()), &f64s(&kinds("grad.edges")), 1e-3);
        let names = golden.keys().filter_map(|name| name.strip_prefix("grad."));
        for name in names.filter(|name| !name.starts_with("operations") && !name.starts_with("edges")) {
            close(name, &f64s(&net.gradient(name).unwrap()), &f64s(&flat(&format!("grad.{name}"))), 1e-3);
        }
    }
}

#[test]
fn images_that_share_a_pack() {
    compare(config(16, 4), &Softmax::default(), &[(8, 8, 8), (6, 8, 8), (3, 8, 8), (8, 8, 8)]);
}

#[test]
fn other_parts_sizes_and_lanes_to_spare() {
    compare(config(6, 2), &Softmax::default(), &[(4, 10, 10)]);
    compare(config(32, 2), &Softmax::default(), &[(4, 16, 16)]);
    compare(config(4, 4), &Softmax::default(), &[(16, 7, 9)]);
    compare(config(4, 4), &Softmax::default(), &[(2, 14, 18)]);
}

#[test]
fn sampled_candidates() {
    compare(config(16, 4), &Gumbel::default(), &[(8, 8, 8), (4, 8, 8)]);
}

/// An optimiser updates the weights of every image of a pack equally.
#[test]
fn a_step_moves_all_images_of_a_pack() {
    let config = config(16, 4);
    let batch = batch(8, 8, 8);
    let alphas = Alphas::init(&space::DARTS, 7).with_edges(7);
    let pass = sample(&Softmax::default(), &alphas, &config, 0);
    let sites = pass.sites(&config);
    let mut reference = Reference::new(&config, 8, 8, 1).unwrap();
    let mut fused = WiredSupernet::new(config).unwrap();
    Supernet::load(&mut fused, &Supernet::weights(&mut reference).unwrap()).unwrap();
    let nets: [&mut dyn Supernet; 2] = [&mut fused, &mut reference];
    let [found, expected] = nets.map(|net| {
        net.evaluate_sites(&batch, &sites, BOTH).unwrap();
        net.update(&mut |_, w, g| w.iter_mut().zip(g).for_each(|(w, g)| *w -= 0.1 * g)).unwrap();
        net.evaluate_sites(&batch, &sites, BOTH).unwrap().loss
    });
    assert!((found - expected).abs() < 1e-4 * expected, "{found} {expected}");
}
