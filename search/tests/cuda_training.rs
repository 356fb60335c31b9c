//! Trainings of derived networks with the GPU kernels, compared to the CPU engine. The kernels run on the host, or on the GPU named by
//! `MILENAS_TEST_DEVICE`.
#![allow(clippy::unwrap_used)]

#[path = "../../models/tests/cuda/host.rs"]
mod host;

use milenas_models::fused::Regularisers;
use milenas_models::{Genotype, NetworkConfig, Rng, Skeleton, Trainable, Weights};
use milenas_search::data::Batch;
use milenas_search::engine::{Engine, MaybeDevice};
use milenas_search::optim::{Ema, Sgd, SgdConfig};
use milenas_search::train::drop_path;

const CLASSES: usize = 3;

/// Genotype with every primitive of the DARTS space, a node that is concatenated twice, and nodes concatenated out of order.
const EVERY: &str = "Genotype(normal=[('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('sep_conv_3x3', 0), \
('sep_conv_5x5', 2), ('dil_conv_3x3', 3), ('dil_conv_5x5', 1), ('skip_connect', 2), ('none', 0)], \
normal_concat=[3, 2, 5, 4], reduce=[('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('sep_conv_3x3', 0), \
('sep_conv_5x5', 1), ('dil_conv_3x3', 0), ('dil_conv_5x5', 1), ('skip_connect', 0), ('skip_connect', 3)], \
reduce_concat=[2, 3, 4, 5])";

/// Genotype with primitives that have no kernel of their own.
const OTHERS: &str = "Genotype(normal=[('sep_conv_7x7', 0), ('conv_7x1_1x7', 1), ('skip_connect', 1), ('sep_conv_3x3', 2)], \
normal_concat=[2, 3], reduce=[('conv_7x1_1x7', 0), ('sep_conv_7x7', 1), ('sep_conv_7x7', 0), ('skip_connect', 2)], \
reduce_concat=[2, 3])";

const ARCH: &str = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";

fn network(
    genotype: &str,
    channels: usize,
    [height, width]: [usize; 2],
    skeleton: Skeleton,
    auxiliary: bool,
) -> Trainable {
    let genotype = Genotype::parse(genotype, "test").unwrap();
    let shape =
        NetworkConfig { channels, layers: 3, classes: CLASSES, in_channels: 3, height, width, skeleton };
    Trainable::assemble(&genotype, &shape, auxiliary).unwrap()
}

/// Returns weights with running statistics and affine parameters other than 0 and 1.
fn weights(network: &Trainable) -> Weights {
    let weights = Weights::init(&network.graph, 3).unwrap();
    for param in network.graph.params().filter(|param| param.shape.len() == 1) {
        let mut rng = Rng::new(4, &param.name);
        let change = |w: &mut [f32]| w.iter_mut().for_each(|w| *w = w.abs() + rng.uniform(0.1, 0.4));
        weights.modify(&param.name, change).unwrap();
    }
    weights
}

/// Images of noise around a level that depends on the class.
fn batch(count: usize, [height, width]: [usize; 2], seed: usize) -> Batch {
    let mut rng = Rng::new(seed as u64, "training");
    let labels: Vec<u32> = (0..count).map(|_| rng.below(CLASSES) as u32).collect();
    let mut images = Vec::new();
    for label in &labels {
        images.extend((0..3 * height * width).map(|_| rng.normal() + *label as f32 - 1.0));
    }
    Batch { images: images.into(), labels, shape: [3, height, width] }
}

/// Results of a pass, and of a plain SGD step by its gradients.
struct Left {
    loss: f64,
    right: usize,
    /// Gradient of each tensor, by name.
    changes: Vec<(String, Vec<f32>)>,
    /// Logits with running statistics.
    logits: Vec<f32>,
}

fn pass(network: &Trainable, batch: &Batch, extra: &Regularisers<'_>, device: MaybeDevice<'_>) -> Left {
    let (before, after) = (weights(network), weights(network));
    let mut engine = Engine::for_training(network, &after, device).unwrap();
    let (loss, right) = engine.gradients(batch, extra).unwrap();
    let bare = SgdConfig { lr: 1.0, lr_min: 0.0, momentum: 0.0, decay: 0.0, clip: 0.0 };
    engine.step(&mut Sgd::new(), &bare, 1.0).unwrap();
    let logits = engine.predict(batch).unwrap().concat();
    engine.store().unwrap();
    let change = |(name, var): (&str, &candle_core::Var)| {
        let change = (before.require(name).unwrap().as_tensor() - var.as_tensor()).unwrap();
        (name.to_string(), change.flatten_all().unwrap().to_vec1().unwrap())
    };
    Left { loss, right, changes: after.iter().map(change).collect(), logits }
}

/// Checks that values agree within a fraction of the largest element, which counts as at least 1e-3.
#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{what}: differs by {worst}, its largest is {scale}");
}

#[test]
fn gradients_statistics_and_logits_are_those_of_the_cpu() {
    let (cifar, imagenet) = (Skeleton::Cifar, Skeleton::ImageNet);
    // With five channels and odd numbers of images, few feature maps have a multiple of four elements.
    for (genotype, channels, size, count, skeleton, auxiliary) in [
        (EVERY, 4, [32, 32], 2, cifar, true),
        (EVERY, 5, [15, 15], 3, cifar, false),
        (EVERY, 4, [8, 8], 1, cifar, false),
        (EVERY, 2, [224, 224], 2, imagenet, true),
        (OTHERS, 4, [9, 12], 4, cifar, false),
        (ARCH, 4, [10, 7], 4, cifar, false),
    ] {
        let network = network(genotype, channels, size, skeleton, auxiliary);
        let paths = drop_path::factors(0.4, network.paths.len(), count, &mut Rng::new(7, "drop_path"));
        let weight = if auxiliary { 0.4 } else { 0.0 };
        let regularised = Regularisers { smoothing: 0.1, auxiliary: weight, paths: &paths };
        let batch = batch(count, size, 1);
        // The CPU engine skips an auxiliary head of weight 0, including its statistics.
        let bare = (!auxiliary).then(Regularisers::default);
        for extra in bare.into_iter().chain([regularised]) {
            let expected = pass(&network, &batch, &extra, None);
            for mut device in host::devices(&[32]).into_iter().chain(host::convolving(&[32])) {
                let found = pass(&network, &batch, &extra, Some(&mut *device));
                let what = |name: &str| format!("{name} of {genotype} at {size:?} by {extra:?}");
                close(&what("loss"), &[found.loss as f32], &[expected.loss as f32], 1e-4);
                assert_eq!(found.right, expected.right, "{}", what("right answers"));
                assert_eq!(found.changes.len(), expected.changes.len());
                for ((name, found), (_, expected)) in found.changes.iter().zip(&expected.changes) {
                    close(&what(name), found, expected, 1e-3);
                }
                // These logits are of other weights, after a large step.
                close(&what("logits"), &found.logits, &expected.logits, 1e-2);
            }
        }
    }
}

/// Training steps with momentum, weight decay, clipping and a moving average of the weights. The third batch is larger than the earlier
/// ones, so that the device's memory is freed and allocated again.
struct Training<'a> {
    engine: Engine<'a>,
    sgd: Sgd,
    ema: Ema,
    paths: usize,
}

const SIZE: [usize; 2] = [8, 8];

impl<'a> Training<'a> {
    fn new(network: &'a Trainable, weights: &'a Weights, device: MaybeDevice<'a>) -> Training<'a> {
        let engine = Engine::for_training(network, weights, device).unwrap();
        Training { engine, sgd: Sgd::new(), ema: Ema::default(), paths: network.paths.len() }
    }

    fn steps(&mut self, steps: std::ops::Range<usize>) -> Vec<f64> {
        let config = SgdConfig { lr: 0.05, lr_min: 0.0, momentum: 0.9, decay: 3e-4, clip: 5.0 };
        let step = |step: usize| {
            let batch = batch([8, 5, 11, 8][step % 4], SIZE, step);
            let mut rng = Rng::new(step as u64, "drop_path");
            let paths = drop_path::factors(0.1, self.paths, batch.len(), &mut rng);
            let extra = Regularisers { paths: &paths, ..Regularisers::default() };
            let (loss, _) = self.engine.gradients(&batch, &extra).unwrap();
            self.engine.step(&mut self.sgd, &config, config.lr).unwrap();
            self.engine.average(&mut self.ema, 0.9).unwrap();
            loss
        };
        steps.map(step).collect()
    }

    /// Returns the logits of the averaged weights.
    fn means(&mut self) -> Vec<f32> {
        self.engine.swap(&mut self.ema).unwrap();
        let logits = self.engine.predict(&batch(6, SIZE, 99)).unwrap().concat();
        self.engine.swap(&mut self.ema).unwrap();
        logits
    }
}

#[test]
fn trainings_are_those_of_the_cpu() {
    let network = network(EVERY, 4, SIZE, Skeleton::Cifar, false);
    let (start, own) = (weights(&network), weights(&network));
    let mut expected = Training::new(&network, &start, None);
    let losses = expected.steps(0..8);
    for mut device in host::devices(&[32]).into_iter().chain(host::convolving(&[32])) {
        let mut found = Training::new(&network, &own, Some(&mut *device));
        for (step, (found, expected)) in found.steps(0..8).iter().zip(&losses).enumerate() {
            let tolerance = if step == 0 { 1e-5 } else { 1e-2 };
            assert!(
                (found - expected).abs() <= tolerance * expected,
                "step {step}: {found}, on the cpu {expected}"
            );
        }
        close("logits by the mean", &found.means(), &expected.means(), 2e-2);
    }
}

/// A training whose weights, velocities and averages are copied to another device continues like one without an interruption.
#[test]
fn a_training_goes_on_from_what_was_read() {
    let network = network(EVERY, 4, SIZE, Skeleton::Cifar, false);
    for (mut device, mut other) in host::devices(&[32]).into_iter().zip(host::devices(&[32])) {
        let (first, second) = (weights(&network), weights(&network));
        let mut whole = Training::new(&network, &first, Some(&mut *device));
        whole.steps(0..2);
        whole.engine.store().unwrap();
        whole.engine.download_velocities(&mut whole.sgd).unwrap();
        assert!(whole.sgd.state().iter().flatten().any(|v| *v != 0.0), "the weights have velocities");
        second.copy_from(&first).unwrap();
        let mut rest = Training::new(&network, &second, Some(&mut *other));
        (rest.sgd, rest.ema) = (whole.sgd.clone(), whole.ema.clone());
        assert_eq!(rest.steps(2..5), whole.steps(2..5));
        assert_eq!(rest.means(), whole.means());
    }
}
