//! How fast a step is, of the search or of a network's training, and where its time goes.

mod latency;
mod step;
mod train;

use milenas_models::Rng;
use milenas_models::images::Labelled;
use milenas_models::input::{InputContract, Resize};
use milenas_models::memory::peak_mib;
use serde::Serialize;

use crate::data::ImageSet;
use crate::strategy::Order;

pub use latency::latency;
pub use step::{StepBench, step};
pub use train::{TrainBench, train};

/// The image side of the paper's search.
const SIDE: usize = 32;

/// What a bench measured. Times are seconds of one step: the median, and parts of the mean.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct StepReport {
    pub device: String,
    pub threads: usize,
    /// Of the search's passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    pub batch: usize,
    pub images_per_second: f64,
    pub step_seconds: f64,
    /// The largest memory of the process so far; `None` where the system does not tell.
    pub peak_mib: Option<f64>,
    /// Multiply-adds of the convolutions and the classifier, twice, over the step's time; work done again is not counted.
    /// `None` where the mixture leaves work out.
    pub gflops: Option<f64>,
    /// Waiting for a batch.
    pub data: f64,
    /// `None`, as the other parts, of what does not measure its phases.
    pub forward: Option<f64>,
    pub backward: Option<f64>,
    /// What the others leave of a step.
    pub optimiser: Option<f64>,
    /// Every phase of the network.
    pub phases: Vec<(String, f64)>,
}

impl StepReport {
    /// From the seconds of each step, those of all steps spent waiting for data, and the phases of all steps.
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

fn noise(count: usize) -> ImageSet {
    let contract = InputContract::new([3, SIDE, SIDE], vec![0.5; 3], vec![0.25; 3], Resize::Stretch);
    let mut rng = Rng::new(0, "bench");
    let pixels = (0..count * contract.len()).map(|_| rng.word() as u8).collect();
    let labels = (0..count).map(|_| rng.below(10) as u32).collect();
    ImageSet { images: Labelled { pixels, labels }, wholes: Vec::new(), contract }
}
