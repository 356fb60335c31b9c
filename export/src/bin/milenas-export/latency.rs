//! Measures the latency of a network on this machine with this project's kernels.

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use milenas_models::fused::{FusedNetwork, Precision};
use milenas_models::{Executor, Graph, Mode, Rng, Weights};

/// Batch sizes to measure if the graph accepts any batch size.
const BATCHES: [usize; 2] = [1, 32];
/// Timed runs per batch size, after one warm-up run.
const RUNS: usize = 9;

/// Formats one line per batch size: the median latency over several runs on random images, on all threads.
pub fn lines(graph: &Graph, weights: &Weights) -> Result<String> {
    let input = graph.inputs().next().map(|value| graph.fact(value));
    let (channels, height, width) = input.and_then(|fact| fact.chw()).context("the input is not an image")?;
    let fixed = input.and_then(|fact| fact.dims().first()?.fixed());
    let fused = FusedNetwork::for_evaluation(graph, weights, Precision::Float32)?.ok();
    let mut lines = String::new();
    for batch in fixed.map_or(BATCHES.to_vec(), |n| vec![n]) {
        let mut rng = Rng::new(0, "latency");
        let images: Vec<f32> = (0..batch * channels * height * width).map(|_| rng.normal()).collect();
        let run = || -> Result<f64> {
            let start = Instant::now();
            match &fused {
                Some(network) => drop(network.infer(&images)?),
                None => {
                    let shape = (batch, channels, height, width);
                    let images = Tensor::from_slice(&images, shape, &Device::Cpu)?;
                    drop(Executor::new(graph, weights).run(&[images], Mode::Eval)?);
                }
            }
            Ok(start.elapsed().as_secs_f64())
        };
        run()?;
        let mut seconds = (0..RUNS).map(|_| run()).collect::<Result<Vec<_>>>()?;
        seconds.sort_by(f64::total_cmp);
        let median = seconds[RUNS / 2];
        let rate = batch as f64 / median;
        let kernels = if fused.is_some() { "fused passes" } else { "executor" };
        lines.push_str(&format!(
            "latency: batch {batch}, {:.2} ms, {rate:.1} images/s, {kernels}\n",
            1e3 * median
        ));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use milenas_export::untrained;
    use milenas_models::Genotype;

    use super::*;

    #[test]
    fn a_line_for_every_batch() {
        let size = untrained::UntrainedSize { channels: 2, layers: 3, classes: 4, size: 8 };
        let model = untrained::network(Genotype::named("DARTS_V2").unwrap(), size, 0).unwrap();
        let lines = lines(&model.graph, &model.weights).unwrap();
        let rates = lines.lines().map(|line| {
            let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            (words[2].parse::<usize>().unwrap(), words[5].parse::<f64>().unwrap())
        });
        assert!(rates.clone().all(|(_, rate)| rate > 0.0));
        assert_eq!(rates.map(|(batch, _)| batch).collect::<Vec<_>>(), BATCHES);
    }
}
