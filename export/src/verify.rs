//! Two networks side by side on the same inputs: the proof that compiling kept what the network computes.

use std::fmt;

use candle_core::{Device, Tensor};
use milenas_models::graph::Dim;
use milenas_models::{Executor, Graph, Mode, Rng, Weights};

use crate::{Error, Result};

/// A graph with its weights.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// What is computed.
    pub graph: &'a Graph,
    /// With which numbers.
    pub weights: &'a Weights,
}

/// How far two results may lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Of the largest difference by itself: what rounding does to results near 0.
    pub absolute: f32,
    /// Of the largest difference over the largest number of the reference result.
    pub relative: f32,
}

impl Tolerance {
    /// The same to the last bit.
    pub const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 0.0 };
    /// The same but for the rounding of f32 when factors are multiplied in another order, through hundreds of layers.
    pub const ROUNDING: Tolerance = Tolerance { absolute: 1e-6, relative: 1e-4 };
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1e} absolute or {:.1e} relative", self.absolute, self.relative)
    }
}

/// What two networks differ by, over all results and inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The largest difference of two numbers; NaN when either network gives one.
    pub max_abs: f32,
    /// The largest difference over the largest number of the same result in the reference.
    pub max_rel: f32,
    /// Of the rows of all results `[N, classes]`, the part whose largest number is in the same place.
    pub top1_agreement: f64,
    /// How many images were run.
    pub images: usize,
}

impl Comparison {
    /// Whether the networks compute the same.
    pub fn within(&self, tolerance: &Tolerance) -> bool {
        self.max_abs <= tolerance.absolute || self.max_rel <= tolerance.relative
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { max_abs, max_rel, top1_agreement, images } = self;
        let percent = 100.0 * top1_agreement;
        write!(
            f,
            "at most {max_abs:.2e} absolute, {max_rel:.2e} relative, the same label for {percent:.1} % of {images} images"
        )
    }
}

/// Seeded standard normal inputs for a graph: batches of 1, 2 and 7, or of its own size if that is fixed.
pub fn random_inputs(graph: &Graph, seed: u64) -> Result<Vec<Vec<Tensor>>> {
    let free = graph.inputs().any(|v| graph.fact(v).dims().contains(&Dim::Batch));
    let batches: &[usize] = if free { &[1, 2, 7] } else { &[1] };
    let mut rng = Rng::new(seed, "verify");
    let mut input = |value, batch: usize| {
        let sizes = graph.fact(value).dims().iter().map(|d| d.fixed().unwrap_or(batch));
        let sizes: Vec<usize> = sizes.collect();
        let data: Vec<f32> = (0..sizes.iter().product()).map(|_| rng.normal()).collect();
        Ok(Tensor::from_vec(data, sizes, &Device::Cpu).map_err(milenas_models::Error::from)?)
    };
    batches.iter().map(|&batch| graph.inputs().map(|value| input(value, batch)).collect()).collect()
}

/// Runs both networks in evaluation on each of `batches`: tensors in the order of [`Graph::inputs`].
///
/// # Errors
/// Networks whose results have other names or shapes; an input that does not fit.
pub fn compare(reference: Network, other: Network, batches: &[Vec<Tensor>]) -> Result<Comparison> {
    let names = |n: Network| n.graph.outputs().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if names(reference) != names(other) {
        let problem =
            format!("its results are {:?}, those of the source {:?}", names(other), names(reference));
        return Err(Error::NotLowered { node: "results".into(), problem });
    }
    let mut total = Comparison { max_abs: 0.0, max_rel: 0.0, top1_agreement: 1.0, images: 0 };
    let (mut rows, mut agreeing) = (0, 0);
    for inputs in batches {
        let expected = Executor::new(reference.graph, reference.weights).run(inputs, Mode::Eval)?;
        let found = Executor::new(other.graph, other.weights).run(inputs, Mode::Eval)?;
        for (expected, found) in expected.iter().zip(&found) {
            let (max_abs, scale) = difference(expected, found)?;
            total.max_abs = worse(total.max_abs, max_abs);
            total.max_rel = worse(total.max_rel, if max_abs == 0.0 { 0.0 } else { max_abs / scale });
            let labels = [labels(expected)?, labels(found)?];
            rows += labels[0].len();
            agreeing += labels[0].iter().zip(&labels[1]).filter(|(a, b)| a == b).count();
        }
        total.images += inputs.first().and_then(|x| x.dims().first().copied()).unwrap_or(0);
    }
    if rows > 0 {
        total.top1_agreement = agreeing as f64 / rows as f64;
    }
    Ok(total)
}

/// The larger; NaN if either is.
fn worse(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

/// The largest difference, and the largest number of `expected`.
fn difference(expected: &Tensor, found: &Tensor) -> Result<(f32, f32)> {
    if expected.dims() != found.dims() {
        let problem = format!("has shape {:?}, that of the source {:?}", found.dims(), expected.dims());
        return Err(Error::NotLowered { node: "results".into(), problem });
    }
    let numbers = |x: &Tensor| -> Result<Vec<f32>> {
        Ok(x.flatten_all().and_then(|x| x.to_vec1()).map_err(milenas_models::Error::from)?)
    };
    let (expected, found) = (numbers(expected)?, numbers(found)?);
    let max_abs = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, worse);
    Ok((max_abs, expected.iter().map(|a| a.abs()).fold(0.0, worse)))
}

/// The place of the largest number of each row of `[N, classes]`; of no other shape.
fn labels(result: &Tensor) -> Result<Vec<u32>> {
    match result.rank() {
        2 => Ok(result.argmax(1).and_then(|x| x.to_vec1()).map_err(milenas_models::Error::from)?),
        _ => Ok(Vec::new()),
    }
}
