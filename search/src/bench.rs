//! How fast a step of the search is, and where its time goes.

use std::time::Instant;

use milenas_models::images::Labelled;
use milenas_models::input::{InputContract, Resize};
use milenas_models::{Rng, Space};
use serde::Serialize;

use crate::Result;
use crate::config::SearchConfig;
use crate::data::{Augment, Loader, Pictures, Plan};
use crate::strategy::{Order, Stepper};
use crate::supernet::fused::FusedSupernet;
use crate::supernet::reference::Reference;
use crate::supernet::{Alphas, Supernet, SupernetConfig};

/// The image side of the paper's search.
const SIDE: usize = 32;

/// What is measured.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct StepBench {
    pub channels: usize,
    pub layers: usize,
    pub batch: usize,
    /// Measured steps, after one that is not.
    pub steps: usize,
    pub order: Order,
}

/// What was measured. Times are seconds of one step: the median, and parts of the mean.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct StepReport {
    pub device: String,
    pub threads: usize,
    pub order: Order,
    pub batch: usize,
    pub images_per_second: f64,
    pub step_seconds: f64,
    /// The largest memory of the process so far; `None` where the system does not tell.
    pub peak_mib: Option<f64>,
    /// Multiply-adds of the convolutions and the classifier, twice, over the step's time; work done again is not counted.
    pub gflops: f64,
    /// Waiting for a batch.
    pub data: f64,
    pub forward: f64,
    pub backward: f64,
    pub optimiser: f64,
    /// Every phase of the network.
    pub phases: Vec<(String, f64)>,
}

/// Runs steps of the search on made-up images.
pub fn step(bench: &StepBench, search: &SearchConfig) -> Result<StepReport> {
    let shape =
        SupernetConfig { channels: bench.channels, layers: bench.layers, ..SupernetConfig::paper(10) };
    let reference = Reference::new(&shape, SIDE, SIDE, 0)?;
    let mut net = FusedSupernet::new(shape);
    Supernet::load(&mut net, &Supernet::weights(&reference)?)?;
    let flops = 2.0 * bench.batch as f64 * reference.macs() as f64 * passes(bench.order);
    drop(reference);

    let pictures = noise(bench.batch * (bench.steps + 1));
    let all: Vec<usize> = (0..pictures.len()).collect();
    let config = SearchConfig { order: bench.order, batch: bench.batch, ..search.clone() };
    let mut stepper = Stepper::new(&config)?;
    let mut alphas = Alphas::init(&Space::darts(), 0);
    let augment = Some(Augment { crop: 0.125, flip: true });
    let (mut seconds, mut data) = (Vec::new(), 0.0);
    std::thread::scope(|scope| {
        let plan = |purpose| Plan::epoch(&all, bench.batch, 0, 0, purpose, 0);
        let mut train = Loader::start(scope, &pictures, plan("train"), augment);
        let mut valid = Loader::start(scope, &pictures, plan("valid"), augment);
        for step in 0..=bench.steps {
            let start = Instant::now();
            let (Some(a), Some(b)) = (train.next(), valid.next()) else { break };
            let waited = start.elapsed().as_secs_f64();
            stepper.step(&mut net, &mut alphas, [&a, &b], &config, config.weights.lr)?;
            match step {
                // The first step finds its memory.
                0 => net.reset_profile(),
                _ => {
                    seconds.push(start.elapsed().as_secs_f64());
                    data += waited;
                }
            }
        }
        Ok::<_, crate::Error>(())
    })?;
    let steps = seconds.len() as f64;
    let total = seconds.iter().sum::<f64>() / steps;
    let part = |prefix: &str| {
        net.profile().iter().filter(|(n, _)| n.starts_with(prefix)).map(|(_, s)| s).sum::<f64>() / steps
    };
    let (forward, backward, data) = (part("forward"), part("backward"), data / steps);
    seconds.sort_by(f64::total_cmp);
    let step_seconds = seconds[seconds.len() / 2];
    Ok(StepReport {
        device: "cpu".into(),
        threads: rayon::current_num_threads(),
        order: bench.order,
        batch: bench.batch,
        images_per_second: bench.batch as f64 / step_seconds,
        step_seconds,
        peak_mib: peak_mib(),
        gflops: flops / step_seconds / 1e9,
        data,
        forward,
        backward,
        optimiser: total - forward - backward - data,
        phases: net.profile().iter().map(|(name, s)| (name.to_string(), s / steps)).collect(),
    })
}

/// Work of a step in forward passes: a backward pass costs one for the inputs and one for the weights.
fn passes(order: Order) -> f64 {
    match order {
        Order::Released => 2.0 + 2.0 + 3.0,
        Order::TwoPass => 3.0 + 2.0,
    }
}

fn noise(count: usize) -> Pictures {
    let contract = InputContract {
        height: SIDE,
        width: SIDE,
        channels: 3,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        resize: Resize::Stretch,
        background: None,
    };
    let mut rng = Rng::new(0, "bench");
    let pixels = (0..count * contract.len()).map(|_| rng.word() as u8).collect();
    let labels = (0..count).map(|_| rng.below(10) as u32).collect();
    Pictures { images: Labelled { pixels, labels }, contract }
}

fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
