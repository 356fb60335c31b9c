//! Latency of a trained network for one image, on the compiled passes that deployment uses.

use std::time::Instant;

use candle_core::{Device, Tensor};
use milenas_models::fused::{FusedNetwork, Precision};
use milenas_models::{Executor, Mode, Model, Rng};

use crate::Result;

/// Number of measured runs, after one that is not measured.
const RUNS: usize = 15;

/// Returns the median seconds for one image on one thread.
pub fn latency(model: &Model) -> Result<f64> {
    let input = &model.card.input;
    let mut rng = Rng::new(0, "latency");
    let image: Vec<f32> = (0..input.len()).map(|_| rng.normal()).collect();
    let fused = FusedNetwork::for_evaluation(&model.graph, &model.weights, Precision::Float32)?.ok();
    let run = || -> Result<f64> {
        let start = Instant::now();
        match &fused {
            Some(network) => drop(network.infer(&image)?),
            None => {
                let shape = (1, input.channels, input.height, input.width);
                let image = Tensor::from_slice(&image, shape, &Device::Cpu)?;
                drop(Executor::new(&model.graph, &model.weights).run(&[image], Mode::Eval)?);
            }
        }
        Ok(start.elapsed().as_secs_f64())
    };
    run()?;
    let mut seconds = (0..RUNS).map(|_| run()).collect::<Result<Vec<_>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[RUNS / 2])
}
