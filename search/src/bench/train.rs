//! Benchmark of a training step of a derived network.

use std::time::Instant;

use milenas_models::fused::Regularisers;
use milenas_models::{Genotype, NetworkConfig, Trainable, Weights, cost};

use super::{StepReport, noise};
use crate::Result;
use crate::config::TrainConfig;
use crate::data::{Augment, BatchFormat, EpochOrder, Loader};
use crate::engine::Engine;
use crate::optim::Sgd;
use crate::supernet::DeviceSpec;

/// Size of the benchmark.
#[derive(Clone, Debug)]
pub struct TrainBench {
    /// Architecture of the network.
    pub genotype: Genotype,
    /// Channels of a node in the first cells.
    pub channels: usize,
    /// Number of cells.
    pub layers: usize,
    /// Side of the images in pixels.
    pub side: usize,
    /// Number of images per step.
    pub batch: usize,
    /// Number of measured steps, after one that is not measured.
    pub steps: usize,
}

/// Runs training steps on synthetic images.
///
/// # Errors
/// Fails if the device is not available.
pub fn train(bench: &TrainBench, config: &TrainConfig, place: DeviceSpec) -> Result<StepReport> {
    let &TrainBench { channels, layers, side, batch, steps, .. } = bench;
    let shape = NetworkConfig {
        channels,
        layers,
        classes: 10,
        in_channels: 3,
        height: side,
        width: side,
        skeleton: Default::default(),
    };
    let network = Trainable::assemble(&bench.genotype, &shape, false)?;
    let weights = Weights::init(&network.graph, 0)?;
    // A backward pass costs one forward pass for the inputs and one for the weights.
    let flops = 3.0 * 2.0 * batch as f64 * cost(&network.graph).macs as f64;
    let mut device = place.open()?;
    let name = device.as_ref().map_or("cpu".into(), |device| device.name().to_string());
    let mut engine = Engine::for_training(&network, &weights, device.as_deref_mut())?;
    let mut sgd = Sgd::new();
    let images = noise(batch * (steps + 1), side);
    let all: Vec<usize> = (0..images.len()).collect();
    let (mut seconds, mut data) = (Vec::new(), 0.0);
    std::thread::scope(|scope| {
        let plan = EpochOrder::epoch(&all, batch, 0, 0, "train", 0);
        let form = BatchFormat::new(engine.takes_bytes(), Some(Augment { crop: 0.125, flip: true }.into()));
        let mut batches = Loader::start(scope, &images, plan, form);
        for step in 0..=steps {
            let start = Instant::now();
            let Some(batch) = batches.next() else { break };
            let waited = start.elapsed().as_secs_f64();
            engine.gradients(&batch, &Regularisers::default())?;
            engine.step(&mut sgd, &config.weights, config.weights.lr)?;
            match (step, engine.fused()) {
                // The first step allocates memory, so it is not measured.
                (0, Some(network)) => network.reset_profile(),
                (0, None) => (),
                _ => {
                    seconds.push(start.elapsed().as_secs_f64());
                    data += waited;
                }
            }
        }
        Ok::<_, crate::Error>(())
    })?;
    let profile = engine.fused().map(|network| network.profile().to_vec()).unwrap_or_default();
    Ok(StepReport::new(batch, None, seconds, data, Some(flops), &profile, &name))
}
