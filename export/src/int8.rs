//! Quantises weights and activations to 8-bit integers, as far as the accuracy allows.
//!
//! The user's calibration images set the ranges ([`Method`]). Other labelled images, the holdout, are the
//! accuracy gate. While accuracy falls by more than the gate allows, the layers with the largest error return
//! to float32.

mod ranges;
mod rewrite;
#[cfg(test)]
mod tests;
mod widen;

use std::collections::{BTreeMap, HashSet};

use candle_core::Tensor;
use milenas_models::{Executor, Graph, Mode, Weights};
use rayon::prelude::*;
use serde::Serialize;

pub use ranges::Method;

use crate::onnx::Integers;
use crate::verify::NetworkRef;
use crate::{Result, Target};

/// Settings of the quantisation.
#[derive(Clone, Copy)]
pub struct Int8<'a> {
    /// Method that sets the ranges.
    pub method: Method,
    /// Largest allowed loss of top-1 accuracy on the holdout, in percentage points.
    pub gate: f64,
    /// Calibration images for the ranges: batches of network inputs.
    pub calibration: &'a [Vec<Tensor>],
    /// Holdout images for the accuracy: batches of network inputs.
    pub holdout: &'a [Vec<Tensor>],
    /// Class of each holdout image.
    pub labels: &'a [u32],
    /// Callback that receives a message after every attempt.
    pub progress: &'a dyn Fn(&str),
}

/// Result of the quantisation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Int8Report {
    /// Method that set the ranges.
    pub method: Method,
    /// Number of images that set the ranges.
    pub calibration_images: usize,
    /// Number of holdout images.
    pub holdout_images: usize,
    /// Top-1 accuracy on the holdout, in percent: float32, then int8.
    pub accuracy: [f64; 2],
    /// Largest allowed loss of accuracy, in percentage points.
    pub gate: f64,
    /// Number of convolutions with integer weights and inputs.
    pub rounded: usize,
    /// Convolutions kept in float32, the most sensitive first.
    pub floats: Vec<Sensitive>,
}

/// Convolution kept in float32.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensitive {
    /// Name of the node.
    pub layer: String,
    /// Relative mean square error of the results if only this layer is quantised: the sum of squared changes
    /// over the sum of squared results.
    pub error: f64,
}

/// Quantised network: its graph rounds activations to 8 bits, and `integers` lists the parameters stored as
/// integers.
pub(crate) struct QuantizedNetwork {
    pub(crate) graph: Graph,
    pub(crate) weights: Weights,
    pub(crate) integers: BTreeMap<String, Integers>,
    pub(crate) outcome: Int8Report,
}

/// Number of holdout images that rank layers by sensitivity.
const PROBES: usize = 32;

/// Quantises a network within the accuracy gate. For ONNX Runtime it first widens channels to multiples of 8.
///
/// # Errors
/// Returns an error if the images do not fit the network.
pub(crate) fn quantize(network: NetworkRef, int8: &Int8, target: Target) -> Result<QuantizedNetwork> {
    let wider = match target {
        Target::OnnxRuntime => widen::widen(network)?,
        Target::Portable | Target::CandleOnnx => None,
    };
    let plain = top1(network, int8)?;
    let network = wider.as_ref().map_or(network, |(graph, weights)| NetworkRef { graph, weights });
    let ranges = ranges::observe(network, int8.calibration, int8.method)?;
    let layers = rewrite::layers(network.graph);
    let without = |floats: &[Sensitive]| {
        let floats: HashSet<&str> = floats.iter().map(|s| s.layer.as_str()).collect();
        let rounded = layers.iter().map(String::as_str).filter(|name| !floats.contains(name)).collect();
        rewrite::rewrite(network.graph, network.weights, &ranges, &rounded)
    };
    let mut order: Option<Vec<Sensitive>> = None;
    let mut count = 0;
    loop {
        let sorted = order.as_deref().unwrap_or_default();
        let floats = &sorted[..count.min(sorted.len())];
        let found = without(floats)?;
        let accuracy = [plain, top1(NetworkRef { graph: &found.graph, weights: &found.weights }, int8)?];
        (int8.progress)(&format!(
            "int8, {} of {} convolutions in float32: top-1 {:.2} %, float32 {plain:.2} %",
            floats.len(),
            layers.len(),
            accuracy[1]
        ));
        if plain - accuracy[1] <= int8.gate || floats.len() == layers.len() {
            let outcome = Int8Report {
                method: int8.method,
                calibration_images: images(int8.calibration),
                holdout_images: int8.labels.len(),
                accuracy,
                gate: int8.gate,
                rounded: layers.len() - floats.len(),
                floats: floats.to_vec(),
            };
            let rewrite::Rewritten { graph, weights, integers } = found;
            return Ok(QuantizedNetwork { graph, weights, integers, outcome });
        }
        if order.is_none() {
            order = Some(sensitivities(network, int8, &layers, &ranges)?);
        }
        count = (2 * count).max(1);
    }
}

fn images(batches: &[Vec<Tensor>]) -> usize {
    batches.iter().filter_map(|inputs| inputs.first()?.dims().first().copied()).sum()
}

/// Returns every layer with the error of quantising it alone, sorted from the largest error.
fn sensitivities(
    network: NetworkRef,
    int8: &Int8,
    layers: &[String],
    ranges: &[(f32, f32)],
) -> Result<Vec<Sensitive>> {
    let mut probes = Vec::new();
    let mut left = PROBES;
    for inputs in int8.holdout {
        if left > 0 {
            left = left.saturating_sub(images(std::slice::from_ref(inputs)));
            probes.push(inputs.clone());
        }
    }
    let expected = results(network, &probes)?;
    let scale: f64 = expected.iter().map(|x| x * x).sum();
    let mut order = Vec::new();
    for layer in layers {
        let alone =
            rewrite::rewrite(network.graph, network.weights, ranges, &HashSet::from([layer.as_str()]))?;
        let found = results(NetworkRef { graph: &alone.graph, weights: &alone.weights }, &probes)?;
        let error: f64 = expected.iter().zip(&found).map(|(a, b)| (a - b) * (a - b)).sum();
        order.push(Sensitive { layer: layer.clone(), error: error / scale.max(f64::MIN_POSITIVE) });
    }
    order.sort_by(|a, b| b.error.total_cmp(&a.error));
    Ok(order)
}

/// Returns the values of the first output for all images, in order.
fn results(network: NetworkRef, batches: &[Vec<Tensor>]) -> Result<Vec<f64>> {
    let of_batch = |inputs: &Vec<Tensor>| -> Result<Vec<f32>> {
        let results = Executor::new(network.graph, network.weights).run(inputs, Mode::Eval)?;
        let first = results.first().map(|x| x.flatten_all()?.to_vec1()).transpose();
        Ok(first.map_err(milenas_models::Error::from)?.unwrap_or_default())
    };
    let rows = batches.par_iter().map(of_batch).collect::<Result<Vec<_>>>()?;
    Ok(rows.into_iter().flatten().map(f64::from).collect())
}

/// Returns the top-1 accuracy on the holdout, in percent.
fn top1(network: NetworkRef, int8: &Int8) -> Result<f64> {
    let numbers = results(network, int8.holdout)?;
    let count = int8.labels.len().max(1);
    let rows = numbers.chunks_exact((numbers.len() / count).max(1));
    let right = rows.zip(int8.labels).filter(|(row, label)| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.is_some_and(|(class, _)| class == **label as usize)
    });
    Ok(100.0 * right.count() as f64 / count as f64)
}
