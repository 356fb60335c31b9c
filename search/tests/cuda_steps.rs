//! First steps of a search with the GPU kernels, compared to the CPU engine. The kernels run on the host, or on the GPU named by
//! `MILENAS_TEST_DEVICE`.
#![allow(clippy::unwrap_used)]

#[path = "../../models/tests/cuda/host.rs"]
mod host;

use milenas_models::input::{ImageSize, InputContract, Resize};
use milenas_models::{Rng, Weights, space};
use milenas_search::Result;
use milenas_search::config::{Config, SearchConfig};
use milenas_search::data::{Augment, Batch, ByteBatch};
use milenas_search::optim::{Sgd, SgdConfig};
use milenas_search::strategy::{StepContext, StepLosses, Stepper};
use milenas_search::supernet::cuda::CudaSupernet;
use milenas_search::supernet::{
    Alphas, GradRequest, PassResult, Supernet, SupernetConfig, UpdateFn, new_supernet,
};

const CONFIG: SupernetConfig = SupernetConfig { channels: 4, layers: 3, ..SupernetConfig::paper(3) };
const SIDE: usize = 8;

/// Small images of noise around a level that depends on the class. The last batch of an epoch is smaller. From step 3 on the
/// validation batches are larger, so that the device's memory is freed and allocated again.
fn batch(step: usize, half: &str) -> Batch {
    let mut rng = Rng::new(step as u64, half);
    let count = match half {
        "valid" if step > 2 => 18,
        _ if step % 7 == 6 => 11,
        _ => 16,
    };
    let labels: Vec<u32> = (0..count).map(|_| rng.below(3) as u32).collect();
    let mut images = Vec::new();
    for label in &labels {
        images.extend((0..3 * SIDE * SIDE).map(|_| rng.normal() + *label as f32 - 1.0));
    }
    Batch { images: images.into(), labels, shape: [3, SIDE, SIDE] }
}

/// Returns the losses of each step, the mixture at the end, and the logits with running statistics.
fn steps(net: &mut dyn Supernet, set: &str, count: usize) -> (Vec<StepLosses>, Vec<f32>, Vec<f32>) {
    let config = Config::resolve("paper", None, &[set.into()]).unwrap().search;
    let (mut stepper, mut alphas) = (Stepper::default(), Alphas::init(&space::DARTS, 0));
    let mut seen = Vec::new();
    for step in 0..count {
        let [train, valid] = ["train", "valid"].map(|half| batch(step, half));
        let at = StepContext { seed: 0, epoch: 0, step, lr: 0.01 };
        seen.push(stepper.step(net, &mut alphas, [&train, &valid], &config, at).unwrap());
    }
    let mixture = alphas.mixture();
    let logits = net.predict(&batch(99, "train"), &mixture).unwrap();
    (seen, mixture.concat(), logits)
}

fn close(what: &str, found: f64, expected: f64, tolerance: f64) {
    let far = (found - expected).abs() / expected.abs().max(0.1);
    assert!(far <= tolerance, "{what}: {found}, on the cpu {expected}");
}

/// Rounding errors grow from step to step: a loss that differs by 1e-7 at first differs by 1e-4 at the end. Larger batches and
/// smaller learning rates slow the growth. With few candidates it is faster, so those tests have fewer steps. On the host, blocks of
/// 32 threads sum in trees, as on a GPU; a single thread that sums a row in order is far less exact.
#[test]
fn steps_are_those_of_the_cpu() {
    for (set, count) in [
        ("search.order=released", 20),
        ("search.order=two-pass", 20),
        ("search.mixture=gumbel", 8),
        ("search.strategy=milenas-2nd", 8),
    ] {
        for device in host::devices(&[32]) {
            let mut net = new_supernet(&CONFIG, SIDE, SIDE, 0, None).unwrap();
            let mut found = CudaSupernet::new(CONFIG, device).unwrap();
            found.load(&net.weights().unwrap()).unwrap();
            let (expected, mixture, logits) = steps(&mut *net, set, count);
            let (found, found_mixture, found_logits) = steps(&mut found, set, count);
            assert!(expected[count - 1].train_loss < expected[0].train_loss, "the search learns");
            for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let tolerance = [1e-5, 1e-3, 1e-2][usize::from(step > 0) + usize::from(step > 9)];
                close(&format!("{set}, step {step}, loss"), found.train_loss, expected.train_loss, tolerance);
                let [found, expected] = [found, expected].map(|seen| seen.valid_loss.unwrap());
                close(&format!("{set}, step {step}, validation"), found, expected, tolerance);
            }
            // The mixture's weights, about 1/8, have moved by some 2e-4.
            for (found, expected) in found_mixture.iter().zip(&mixture) {
                let far = (found - expected).abs();
                assert!(far <= 2e-5, "{set}, mixture: {found}, on the cpu {expected}");
            }
            for (found, expected) in found_logits.iter().zip(&logits) {
                close(&format!("{set}, logit"), f64::from(*found), f64::from(*expected), 5e-2);
            }
        }
    }
}

/// Supernet on a device that performs steps pass by pass, with the logits' optimiser on the host.
struct ByPasses(CudaSupernet);

impl Supernet for ByPasses {
    fn config(&self) -> &SupernetConfig {
        self.0.config()
    }

    fn evaluate_sites(
        &mut self,
        batch: &Batch,
        mixture: &[Vec<f32>],
        want: GradRequest,
    ) -> Result<PassResult> {
        self.0.evaluate_sites(batch, mixture, want)
    }

    fn predict_sites(&mut self, batch: &Batch, mixture: &[Vec<f32>]) -> Result<Vec<f32>> {
        self.0.predict_sites(batch, mixture)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        self.0.gradient_norm()
    }

    fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        self.0.gradient(name)
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        self.0.update(step)
    }

    fn sgd_step(&mut self, sgd: &mut Sgd, config: &SgdConfig, rate: f64) -> Result<f64> {
        self.0.sgd_step(sgd, config, rate)
    }

    fn download_velocities(&mut self, sgd: &mut Sgd) -> Result<()> {
        self.0.download_velocities(sgd)
    }

    fn weights(&mut self) -> Result<Weights> {
        self.0.weights()
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        self.0.load(weights)
    }
}

/// Compares losses and updates of all first-order rules in both orders of passes. A whole step and its separate passes differ by
/// rounding only. They are equal if a candidate has weight 0, since the device then performs no whole step.
#[test]
fn a_step_as_a_whole_is_its_passes() {
    let start = new_supernet(&CONFIG, SIDE, SIDE, 0, None).unwrap().weights().unwrap();
    for (device, other) in host::devices(&[32]).into_iter().zip(host::devices(&[32])) {
        let mut whole = CudaSupernet::new(CONFIG, device).unwrap();
        let mut parts = ByPasses(CudaSupernet::new(CONFIG, other).unwrap());
        for (sets, without) in [
            (&["search.order=two-pass", "search.lambda=0.3"][..], false),
            (&["search.order=released"], false),
            (&["search.order=two-pass", "search.strategy=darts-1st"], false),
            (&["search.order=released", "search.strategy=darts-1st"], false),
            (&["search.order=released", "search.strategy=single-level"], false),
            (&["search.order=two-pass", "search.strategy=single-level"], false),
            (&["search.bilevel_epochs=1", "search.bilevel_strategy=darts-2nd"], false),
            (&["search.order=released", "search.compat=released"], false),
            (&["search.order=two-pass"], true),
        ] {
            let set: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
            let config = Config::resolve("paper", None, &set).unwrap().search;
            let (seen, moved) = two_steps(&mut whole, &start, &config, without);
            let (seen_by_passes, moved_by_passes) = two_steps(&mut parts, &start, &config, without);
            for ((correct, found), (correct_by_passes, expected)) in seen.iter().zip(&seen_by_passes) {
                assert_eq!(correct, correct_by_passes, "{sets:?}");
                for (found, expected) in found.iter().zip(expected) {
                    assert_eq!(found.is_some(), expected.is_some(), "{sets:?}");
                    let [found, expected] = [found, expected].map(|x| x.unwrap_or_default());
                    let tolerance = if without { 0.0 } else { 1e-5 };
                    close(&format!("{sets:?}, loss or norm"), found, expected, tolerance);
                }
            }
            assert_eq!(moved.len(), moved_by_passes.len());
            for (i, (found, expected)) in moved.iter().zip(&moved_by_passes).enumerate() {
                let most = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let far = found.iter().zip(expected).fold(0.0f32, |far, (a, b)| far.max((a - b).abs()));
                let tolerance = if without { 0.0 } else { 2e-4 * most + 1e-7 };
                assert!(far <= tolerance, "{sets:?}, {i}: {far} of {most}");
            }
        }
    }
}

/// Returns the losses of two steps, and everything they update. The second step has fewer training images, more validation images
/// and another epoch.
fn two_steps(
    net: &mut dyn Supernet,
    start: &Weights,
    config: &SearchConfig,
    without: bool,
) -> (Vec<Seen>, Vec<Vec<f32>>) {
    net.load(start).unwrap();
    let (mut stepper, mut alphas) = (Stepper::default(), Alphas::init(&space::DARTS, 0));
    if without {
        alphas.operations[3][5] = -200.0;
    }
    let mut seen = Vec::new();
    for step in [2, 6] {
        let [train, valid] = ["train", "valid"].map(|half| batch(step, half));
        let at = StepContext { seed: 0, epoch: step / 6, step, lr: 0.01 };
        let step = stepper.step(net, &mut alphas, [&train, &valid], config, at).unwrap();
        seen.push((step.train_correct, [Some(step.train_loss), step.valid_loss, Some(step.gradient_norm)]));
    }
    let (adam, sgd) = stepper.optimisers(net).unwrap();
    let (steps, first, second) = adam.state();
    assert_eq!(steps, 2);
    let all = |state: &[f64]| state.iter().map(|x| *x as f32).collect::<Vec<f32>>();
    let mut moved = vec![alphas.flat(), all(first), all(second), sgd.state().concat()];
    let weights = net.weights().unwrap();
    moved.extend(weights.iter().map(|(_, w)| w.flatten_all().unwrap().to_vec1().unwrap()));
    (seen, moved)
}

/// Returns the number of correct predictions, the losses, and the gradient's norm.
type Seen = (usize, [Option<f64>; 3]);

/// Images that the device moves and normalises equal those of the host: the passes agree bit for bit.
#[test]
fn bytes_and_numbers_are_one_pass() {
    let mut rng = Rng::new(1, "bytes");
    let (mean, std) = (vec![0.4, 0.5, 0.6], vec![0.2, 0.25, 0.3]);
    let size = ImageSize { height: 9, width: 7 };
    let contract = InputContract::new(size, 3, mean, std, Resize::Stretch);
    let pixels: Vec<u8> = (0..5 * contract.len()).map(|_| rng.below(256) as u8).collect();
    let augment = Augment { crop: 0.25, flip: true };
    let moved = pixels.chunks(contract.len()).map(|image| (image, augment.draw(size, &mut rng)));
    let images = ByteBatch::new(moved, &contract).into();
    let bytes = Batch { images, labels: vec![0, 1, 2, 1, 0], shape: [3, 9, 7] };
    let numbers = Batch { images: bytes.numbers().into_owned().into(), ..bytes.clone() };
    let start = new_supernet(&CONFIG, 9, 7, 0, None).unwrap().weights().unwrap();
    let mixture = Alphas::init(&space::DARTS, 0).mixture();
    for device in host::devices(&[32]) {
        let mut net = CudaSupernet::new(CONFIG, device).unwrap();
        net.load(&start).unwrap();
        let mut pass = |batch: &Batch| {
            let found = net.evaluate(batch, &mixture, GradRequest { weights: true, mixture: true }).unwrap();
            (found.loss, found.mixture_gradient, net.gradient("stem.0.weight").unwrap())
        };
        assert_eq!(pass(&bytes), pass(&numbers));
    }
}

/// A search whose weights and velocities are copied to another device continues like one without an interruption.
#[test]
fn a_search_goes_on_from_what_was_read() {
    let config = Config::resolve("paper", None, &["search.order=two-pass".into()]).unwrap().search;
    let start = new_supernet(&CONFIG, SIDE, SIDE, 0, None).unwrap().weights().unwrap();
    for (device, other) in host::devices(&[32]).into_iter().zip(host::devices(&[32])) {
        let mut net = CudaSupernet::new(CONFIG, device).unwrap();
        net.load(&start).unwrap();
        let (mut stepper, mut alphas) = (Stepper::default(), Alphas::init(&space::DARTS, 0));
        let step = |net: &mut CudaSupernet, stepper: &mut Stepper, alphas: &mut Alphas, step: usize| {
            let [train, valid] = ["train", "valid"].map(|half| batch(step, half));
            let at = StepContext { seed: 0, epoch: 0, step, lr: 0.01 };
            stepper.step(net, alphas, [&train, &valid], &config, at).unwrap()
        };
        for i in 0..2 {
            step(&mut net, &mut stepper, &mut alphas, i);
        }
        let (adam, sgd) = stepper.optimisers(&mut net).unwrap();
        assert!(sgd.state().iter().flatten().any(|v| *v != 0.0), "the weights have velocities");
        let (mut again, mut same) = (Stepper::default(), alphas.clone());
        again.restore(adam.clone(), sgd.clone());
        let mut second = CudaSupernet::new(CONFIG, other).unwrap();
        second.load(&net.weights().unwrap()).unwrap();
        for i in 2..4 {
            let expected = step(&mut net, &mut stepper, &mut alphas, i);
            assert_eq!(step(&mut second, &mut again, &mut same, i), expected, "step {i}");
        }
        assert_eq!(same.flat(), alphas.flat());
    }
}
