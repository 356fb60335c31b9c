//! Comparison of two networks on the same inputs. It verifies that compiling kept the results.

use std::fmt;

use candle_core::{Device, Tensor};
use milenas_models::graph::Dim;
use milenas_models::{Executor, Graph, Mode, Rng, Weights};
use serde::Serialize;

use crate::{Error, Result};

/// Reference to a graph and its weights.
#[derive(Clone, Copy, Debug)]
pub struct NetworkRef<'a> {
    /// Graph of the network.
    pub graph: &'a Graph,
    /// Values of the graph's parameters.
    pub weights: &'a Weights,
}

/// Largest accepted difference between the results of two networks. One of the bounds must hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerance {
    /// Largest absolute difference, for results near 0.
    pub absolute: f32,
    /// Largest difference relative to the largest value of the reference.
    pub relative: f32,
    /// Factor on [`Comparison::rounding`]: a relative difference up to this product is accepted as well, but
    /// never above 1e-2. A deep untrained network amplifies an input change of 1e-7 to 1e-4.
    pub roundings: f32,
}

/// Upper limit of the accepted relative difference that follows from [`Tolerance::roundings`].
const MOST: f32 = 1e-2;
/// Factor that changes the last bits of a float32.
const LAST_BITS: f64 = 1.0 + 1.0 / (1 << 22) as f64;

impl Tolerance {
    /// Accepts only bitwise equal results.
    pub const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 0.0, roundings: 0.0 };
    /// Accepts the float32 rounding of products in another order, through hundreds of layers.
    pub const ROUNDING: Tolerance = Tolerance { absolute: 1e-6, relative: 1e-4, roundings: 8.0 };
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tolerance { absolute, relative, roundings } = self;
        write!(f, "{absolute:.1e} absolute, {relative:.1e} relative or {roundings} times the rounding")
    }
}

/// Differences between the results of two networks, over all outputs and inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Largest absolute difference between two values; NaN if either network computes a NaN.
    pub max_abs: f32,
    /// Largest absolute difference over the largest absolute value of the same output in the reference.
    pub max_rel: f32,
    /// Fraction of rows, over all outputs `[N, classes]`, whose largest value has the same index in both
    /// networks.
    pub top1_agreement: f64,
    /// Largest difference between the reference's results for two images, over its largest absolute value. If
    /// it is about 0, the network ignores its input and the comparison proves little.
    pub variation: f32,
    /// Relative change of the reference's results when the last bits of its input change.
    pub rounding: f32,
    /// Number of images.
    pub images: usize,
}

impl Comparison {
    /// Returns whether the differences are within the tolerance.
    pub fn within(&self, tolerance: &Tolerance) -> bool {
        let rounding = (tolerance.roundings * self.rounding).min(MOST);
        self.max_abs <= tolerance.absolute || self.max_rel <= tolerance.relative.max(rounding)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { max_abs, max_rel, top1_agreement, rounding, images, .. } = self;
        let percent = 100.0 * top1_agreement;
        write!(
            f,
            "at most {max_abs:.2e} absolute, {max_rel:.2e} relative (rounding alone: {rounding:.1e}), the same label \
             for {percent:.1} % of {images} images"
        )
    }
}

/// Returns seeded standard normal inputs: batches of 1, 2 and 7 images, or one batch if the graph fixes the
/// batch size.
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

/// Runs both networks in evaluation mode on each of `batches` and compares their results. A batch lists
/// tensors in the order of [`Graph::inputs`].
///
/// # Errors
/// [`Error::NotLowered`] if the networks' results differ in names or shapes. [`Error::Model`] for an input
/// that does not fit.
pub fn compare(reference: NetworkRef, other: NetworkRef, batches: &[Vec<Tensor>]) -> Result<Comparison> {
    let names = |n: NetworkRef| n.graph.outputs().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if names(reference) != names(other) {
        let problem =
            format!("its results are {:?}, those of the source {:?}", names(other), names(reference));
        return Err(Error::NotLowered { node: "results".into(), problem });
    }
    let mut total = Comparison {
        max_abs: 0.0,
        max_rel: 0.0,
        top1_agreement: 1.0,
        variation: 0.0,
        rounding: 0.0,
        images: 0,
    };
    let (mut rows, mut agreeing) = (0, 0);
    for inputs in batches {
        let expected = Executor::new(reference.graph, reference.weights).run(inputs, Mode::Eval)?;
        let found = Executor::new(other.graph, other.weights).run(inputs, Mode::Eval)?;
        let nudged = inputs.iter().map(|x| x.affine(LAST_BITS, 0.0)).collect::<candle_core::Result<Vec<_>>>();
        let nudged = Executor::new(reference.graph, reference.weights)
            .run(&nudged.map_err(milenas_models::Error::from)?, Mode::Eval)?;
        for ((expected, found), nudged) in expected.iter().zip(&found).zip(&nudged) {
            let (max_abs, scale) = difference(expected, found)?;
            total.max_abs = worse(total.max_abs, max_abs);
            total.max_rel = worse(total.max_rel, ratio(max_abs, scale));
            total.rounding = worse(total.rounding, ratio(difference(expected, nudged)?.0, scale));
            total.variation = worse(total.variation, ratio(spread(expected)?, scale));
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

/// Returns the larger value; NaN if either is NaN.
fn worse(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

/// Returns `part / whole`; 0 if `part` is 0.
fn ratio(part: f32, whole: f32) -> f32 {
    if part == 0.0 { 0.0 } else { part / whole }
}

/// Returns the largest absolute difference, and the largest absolute value of `expected`.
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

/// Returns the largest difference between the result of the first image and that of another.
fn spread(result: &Tensor) -> Result<f32> {
    let first = || result.narrow(0, 0, 1)?.broadcast_as(result.shape())?.contiguous();
    match result.dims().first() {
        Some(2..) => Ok(difference(&first().map_err(milenas_models::Error::from)?, result)?.0),
        _ => Ok(0.0),
    }
}

/// Returns the index of the largest value of each row of `[N, classes]`; empty for another rank.
fn labels(result: &Tensor) -> Result<Vec<u32>> {
    match result.rank() {
        2 => Ok(result.argmax(1).and_then(|x| x.to_vec1()).map_err(milenas_models::Error::from)?),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::graph::{Builder, Fact};
    use milenas_models::op::{Flatten, Linear};

    use super::*;

    fn linear(numbers: [f32; 4]) -> (Graph, Weights) {
        let mut b = Builder::new();
        let x = b.input("x", Fact::image(1, 1, 2)).unwrap();
        let x = b.wire("flat", Flatten { axis: 1 }, &[x]).unwrap();
        let y = b.wire("y", Linear { in_features: 2, out_features: 2, bias: false }, &[x]).unwrap();
        b.output("y", y);
        let mut weights = Weights::default();
        let tensor = Tensor::from_slice(&numbers, (2, 2), &Device::Cpu).unwrap();
        weights.insert("y.weight", tensor).unwrap();
        (b.finish().unwrap(), weights)
    }

    fn compared(a: [f32; 4], b: [f32; 4], x: [f32; 4]) -> Comparison {
        let (a, b) = (linear(a), linear(b));
        let networks = [&a, &b].map(|(graph, weights)| NetworkRef { graph, weights });
        let x = Tensor::from_slice(&x, (2, 1, 1, 2), &Device::Cpu).unwrap();
        compare(networks[0], networks[1], &[vec![x]]).unwrap()
    }

    #[test]
    fn differences_are_measured() {
        // The inputs are (2, 0) and (0, 4). Weights [1, 0; 0, 1] give (2, 0) and (0, 4); weights [1, 0; 0.5,
        // 1] give (2, 1) and (0, 4).
        let found = compared([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.5, 1.0], [2.0, 0.0, 0.0, 4.0]);
        assert_eq!((found.max_abs, found.max_rel, found.top1_agreement), (1.0, 0.25, 1.0));
        assert_eq!((found.variation, found.images), (1.0, 2));
        assert!(found.rounding > 0.0 && found.rounding < 1e-6, "{found}");
        assert!(!found.within(&Tolerance::ROUNDING));
    }

    #[test]
    fn equal_networks_are_exactly_equal() {
        let found = compared([1.0; 4], [1.0; 4], [0.0; 4]);
        assert!(found.within(&Tolerance::EXACT) && found.variation == 0.0, "{found:?}");
    }

    #[test]
    fn no_tolerance_accepts_what_is_no_number() {
        for (a, b) in [([f32::NAN; 4], [1.0; 4]), ([1.0; 4], [f32::NAN; 4]), ([f32::NAN; 4], [f32::NAN; 4])] {
            assert!(!compared(a, b, [1.0; 4]).within(&Tolerance::ROUNDING));
        }
        assert!(!compared([0.0; 4], [1.0; 4], [1.0; 4]).within(&Tolerance::ROUNDING));
    }
}
