//! Benchmark of a search step.

use std::time::Instant;

use super::{SIDE, StepReport, noise};
use crate::Result;
use crate::config::SearchConfig;
use crate::data::{Augment, BatchFormat, EpochOrder, Loader};
use crate::strategy::{Order, Rule, StepContext, Stepper};
use crate::supernet::reference::Reference;
use crate::supernet::{DeviceSpec, SupernetConfig, new_supernet};

/// Size of the benchmark.
#[derive(Clone, Copy, Debug)]
pub struct StepBench {
    /// Channels of a node in the first cells.
    pub channels: usize,
    /// Number of cells.
    pub layers: usize,
    /// Number of images per step.
    pub batch: usize,
    /// Number of measured steps, after one that is not measured.
    pub steps: usize,
}

/// Runs search steps on synthetic images, by the strategy, order and mixture of `search`.
///
/// # Errors
/// Fails if the device is not available.
pub fn step(bench: &StepBench, search: &SearchConfig, place: DeviceSpec) -> Result<StepReport> {
    let partial = search.partial_channels;
    let shape = SupernetConfig {
        channels: bench.channels,
        layers: bench.layers,
        partial,
        ..SupernetConfig::paper(10)
    };
    crate::config::check_parts(bench.channels, partial)?;
    let reference = Reference::new(&shape, SIDE, SIDE, 0)?;
    let device = place.open()?;
    let name = device.as_ref().map_or("cpu".into(), |device| device.name().to_string());
    let mut net = new_supernet(&shape, SIDE, SIDE, 0, device)?;
    let passes = passes(Rule::named(&search.strategy, search.lambda, search.compat)?, search.order);
    let flops = 2.0 * bench.batch as f64 * reference.macs() as f64 * passes;
    let flops = (!search.relaxation()?.is_sparse()).then_some(flops);
    drop(reference);

    let images = noise(bench.batch * (bench.steps + 1), SIDE);
    let all: Vec<usize> = (0..images.len()).collect();
    let config = SearchConfig { batch: bench.batch, ..search.clone() };
    let mut stepper = Stepper::default();
    let mut alphas = search.first_alphas(shape.space, 0);
    let form = BatchFormat::new(net.takes_bytes(), Some(Augment { crop: 0.125, flip: true }.into()));
    let (mut seconds, mut data) = (Vec::new(), 0.0);
    std::thread::scope(|scope| {
        let plan = |purpose| EpochOrder::epoch(&all, bench.batch, 0, 0, purpose, 0);
        let mut train = Loader::start(scope, &images, plan("train"), form);
        let mut valid = Loader::start(scope, &images, plan("valid"), form);
        for step in 0..=bench.steps {
            let start = Instant::now();
            let (Some(a), Some(b)) = (train.next(), valid.next()) else { break };
            let waited = start.elapsed().as_secs_f64();
            let at = StepContext { seed: 0, epoch: 0, step, lr: config.weights.lr };
            stepper.step(&mut *net, &mut alphas, [&a, &b], &config, at)?;
            match step {
                // The first step allocates memory, so it is not measured.
                0 => net.reset_profile(),
                _ => {
                    seconds.push(start.elapsed().as_secs_f64());
                    data += waited;
                }
            }
        }
        Ok::<_, crate::Error>(())
    })?;
    Ok(StepReport::new(bench.batch, Some(search.order), seconds, data, flops, net.profile(), &name))
}

/// Returns the work of a step in forward passes. A backward pass costs one for the inputs and one for the
/// weights.
fn passes(rule: Rule, order: Order) -> f64 {
    let [train, valid] = [rule.train, rule.valid].map(|factor| f64::from(u8::from(factor != 0.0)));
    match order {
        _ if rule.unrolled => 3.0 + 3.0 * (train + valid) + 2.0 * 2.0 + 3.0,
        Order::Released => 2.0 * (train + valid) + 3.0,
        Order::TwoPass => 3.0 + 2.0 * valid,
    }
}
