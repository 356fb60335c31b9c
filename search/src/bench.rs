//! Benchmarks of a search step and of a training step, with the time of each phase.

mod latency;
mod step;
mod train;

use milenas_models::Rng;
use milenas_models::images::Labelled;
use milenas_models::input::{ImageSize, InputContract, Resize};
use milenas_models::memory::peak_mib;
use serde::Serialize;

use crate::data::ImageSet;
use crate::strategy::Order;

pub use latency::latency;
pub use step::{StepBench, step};
pub use train::{TrainBench, train};

/// Side of the images of the paper's search, in pixels.
const SIDE: usize = 32;

/// Result of a benchmark. Times are seconds per step: the median step, and means of its phases.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// Name of the device.
    pub device: String,
    /// Number of CPU threads.
    pub threads: usize,
    /// Order of the search's passes; `None` for a training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Number of images per step.
    pub batch: usize,
    /// Images per second.
    pub images_per_second: f64,
    /// Seconds of the median step.
    pub step_seconds: f64,
    /// Peak memory of the process in MiB; `None` if the system does not report it.
    pub peak_mib: Option<f64>,
    /// GFLOP/s: two operations per multiply-accumulate of the convolutions and the classifier, over the step's
    /// time. Repeated work is not counted. `None` if the mixture skips candidates.
    pub gflops: Option<f64>,
    /// Seconds of waiting for a batch.
    pub data: f64,
    /// Seconds of the forward passes. `None`, as for the other phases, if the network does not measure its
    /// phases.
    pub forward: Option<f64>,
    /// Seconds of the backward passes.
    pub backward: Option<f64>,
    /// Seconds of the rest of the step.
    pub optimiser: Option<f64>,
    /// Names and seconds of the network's phases.
    pub phases: Vec<(String, f64)>,
}

impl StepReport {
    /// Creates a report from the seconds of each step, the total seconds of waiting for data, and the total
    /// seconds of phases.
    fn new(
        batch: usize,
        order: Option<Order>,
        mut seconds: Vec<f64>,
        data: f64,
        flops: Option<f64>,
        profile: &[(&'static str, f64)],
        device: &str,
    ) -> StepReport {
        let steps = seconds.len() as f64;
        let total = seconds.iter().sum::<f64>() / steps;
        let part = |prefix: &str| {
            let seconds = profile.iter().filter(|(n, _)| n.starts_with(prefix)).map(|(_, s)| s).sum::<f64>();
            (!profile.is_empty()).then_some(seconds / steps)
        };
        let (forward, backward, data) = (part("forward"), part("backward"), data / steps);
        seconds.sort_by(f64::total_cmp);
        let step_seconds = seconds[seconds.len() / 2];
        StepReport {
            device: device.into(),
            threads: rayon::current_num_threads(),
            order,
            batch,
            images_per_second: batch as f64 / step_seconds,
            step_seconds,
            peak_mib: peak_mib(),
            gflops: flops.map(|flops| flops / step_seconds / 1e9),
            data,
            forward,
            backward,
            optimiser: forward.zip(backward).map(|(forward, backward)| total - forward - backward - data),
            phases: profile.iter().map(|(name, s)| (name.to_string(), s / steps)).collect(),
        }
    }
}

/// Returns square images of uniform noise.
pub(crate) fn noise(count: usize, side: usize) -> ImageSet {
    let contract =
        InputContract::new(ImageSize::square(side), 3, vec![0.5; 3], vec![0.25; 3], Resize::Stretch);
    let mut rng = Rng::new(0, "bench");
    let pixels = (0..count * contract.len()).map(|_| rng.word() as u8).collect();
    let labels = (0..count).map(|_| rng.below(10) as u32).collect();
    ImageSet { images: Labelled { pixels, labels }, wholes: Vec::new(), contract }
}
