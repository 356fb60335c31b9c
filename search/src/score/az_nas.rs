//! AZ-NAS (Lee and Ham, CVPR 2024): three scores of the features at the outputs of the stem and of the cells, for random
//! images and weights. Its fourth, complexity, is the score `macs`.
//!
//! Images are standard normal, and as many as the batch has. Weights are normal with variance `2 / fan-in`.

use candle_core::{Device, Tensor};
use milenas_models::fused::{Features, FusedNetwork};
use milenas_models::{Graph, Rng, Trainable, Weights};
use nalgebra::DMatrix;
use rayon::prelude::*;

use super::{Score, Subject, is_weight, unsupported};
use crate::Result;

/// Constant in the logarithm of the entropy, as in the authors' code.
const SMALL: f64 = 1e-8;

/// Constant added to a singular value, as in the authors' code.
const SMALL_SINGULAR: f64 = 1e-6;

/// The score `az_expressivity`.
#[derive(Debug)]
pub struct AzExpressivity;

impl Score for AzExpressivity {
    fn name(&self) -> &'static str {
        "az_expressivity"
    }

    fn doc(&self) -> &'static str {
        "sum over cells of the entropy of the features' principal components (Lee and Ham, CVPR 2024)"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        let Some(mut cells) = Cells::new(subject)? else { return Ok(f64::NEG_INFINITY) };
        Ok(cells.entropies()?.iter().sum())
    }
}

/// The score `az_progressivity`.
#[derive(Debug)]
pub struct AzProgressivity;

impl Score for AzProgressivity {
    fn name(&self) -> &'static str {
        "az_progressivity"
    }

    fn doc(&self) -> &'static str {
        "smallest increase of that entropy from a cell to the next (Lee and Ham, CVPR 2024)"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        let Some(mut cells) = Cells::new(subject)? else { return Ok(f64::NEG_INFINITY) };
        let entropies = cells.entropies()?;
        Ok(entropies.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min))
    }
}

/// The score `az_trainability`.
#[derive(Debug)]
pub struct AzTrainability;

impl Score for AzTrainability {
    fn name(&self) -> &'static str {
        "az_trainability"
    }

    fn doc(&self) -> &'static str {
        "closeness to 1 of the largest singular value that relates gradients before and after a cell, mean over cells \
         (Lee and Ham, CVPR 2024)"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        let Some(mut cells) = Cells::new(subject)? else { return Ok(f64::NEG_INFINITY) };
        let outputs = cells.signs(subject.seed);
        let gradients: Vec<Vec<f32>> = outputs.iter().map(|output| output.values.clone()).collect();
        let inputs = cells.network.pull_back(&cells.images, &gradients)?;
        let scores: Vec<f64> = inputs.par_iter().zip(&outputs).map(|(i, o)| trainability(i, o)).collect();
        Ok(scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

/// A network with random images and weights.
struct Cells {
    network: FusedNetwork,
    images: Vec<f32>,
    /// Number of images.
    count: usize,
    /// Sizes of the features: channels, rows and columns.
    sizes: Vec<[usize; 3]>,
}

impl Cells {
    /// Returns nothing for a cell that passes no signal.
    fn new(subject: &Subject<'_>) -> Result<Option<Cells>> {
        if subject.genotype.cells().any(|(_, cell)| cell.is_dead()) {
            return Ok(None);
        }
        // Operations that do not reach the output of their cell have no effect on the scores.
        let Trainable { graph, cells, .. } =
            Trainable::assemble(&subject.genotype.live(), subject.config, false)?;
        let mut network = FusedNetwork::watching(&graph, &cells).map_err(unsupported)?;
        network.tensors_mut().load(&normal(&graph, subject.seed)?)?;
        let sizes = cells.iter().filter_map(|cell| graph.fact(*cell).chw()).map(|(c, h, w)| [c, h, w]);
        let mut rng = Rng::new(subject.seed, "az_nas/images");
        let images = (0..subject.batch.numbers().len()).map(|_| rng.normal()).collect();
        Ok(Some(Cells { network, images, count: subject.batch.len(), sizes: sizes.collect() }))
    }

    fn entropies(&mut self) -> Result<Vec<f64>> {
        Ok(self.network.features(&self.images)?.par_iter().map(entropy).collect())
    }

    /// Returns gradients of 1 or -1 at the output of each cell.
    fn signs(&self, seed: u64) -> Vec<Features> {
        let mut rng = Rng::new(seed, "az_nas/gradients");
        let signs = |&[channels, height, width]: &[usize; 3]| {
            let values = 0..self.count * channels * height * width;
            let values = values.map(|_| if rng.chance(0.5) { 1.0 } else { -1.0 }).collect();
            Features { channels, height, width, values }
        };
        self.sizes[1..].iter().map(signs).collect()
    }
}

/// Draws weights of convolutions and linear layers from a normal distribution of variance `2 / fan-in` (He et al.,
/// ICCV 2015). BatchNorms have their initial weights.
fn normal(graph: &Graph, seed: u64) -> Result<Weights> {
    let mut weights = Weights::init(graph, seed)?;
    for param in graph.params().filter(|param| is_weight(&param.shape)) {
        let deviation = (2.0 / param.shape[1..].iter().product::<usize>() as f32).sqrt();
        let mut rng = Rng::new(seed, &format!("az_nas/{}", param.name));
        let values = (0..param.shape.iter().product()).map(|_| deviation * rng.normal()).collect();
        weights.insert(&param.name, Tensor::from_vec(values, param.shape.as_slice(), &Device::Cpu)?)?;
    }
    Ok(weights)
}

/// Returns the entropy of the eigenvalues of the channels' covariance, normalised to a sum of 1; minus infinity for
/// constant features.
fn entropy(features: &Features) -> f64 {
    let mut values = matrix(features.channels, &features.values);
    let mean = values.column_mean();
    values.column_iter_mut().for_each(|mut position| position -= &mean);
    let covariance = &values * values.transpose();
    let eigenvalues = covariance.symmetric_eigenvalues().map(|x| x.max(0.0));
    let sum = eigenvalues.sum();
    if sum == 0.0 {
        return f64::NEG_INFINITY;
    }
    -eigenvalues.iter().map(|x| x / sum).map(|p| p * (p + SMALL).ln()).sum::<f64>()
}

/// Returns `2 - s - 1 / s` of the largest singular value `s` of the mean over positions of `input output^T`, where
/// `input` and `output` are the gradients at both ends of a cell. Minus infinity if they are equal: the cell is the
/// identity.
fn trainability(input: &Features, output: &Features) -> f64 {
    if input == output {
        return f64::NEG_INFINITY;
    }
    let input = unshuffled(input, input.height.div_ceil(output.height));
    let (input, output) = (matrix(input.channels, &input.values), matrix(output.channels, &output.values));
    let mean = &input * output.transpose() / output.ncols() as f64;
    let largest = mean.singular_values().max();
    2.0 - largest - 1.0 / (largest + SMALL_SINGULAR)
}

/// Returns features as a matrix `[channels, positions]`.
fn matrix(channels: usize, values: &[f32]) -> DMatrix<f64> {
    DMatrix::from_column_slice(channels, values.len() / channels, values).map(f64::from)
}

/// Moves windows of `stride x stride` positions to channels, with zeros for positions outside.
fn unshuffled(features: &Features, stride: usize) -> Features {
    let Features { channels, height, width, ref values } = *features;
    let [rows, columns] = [height, width].map(|size| size.div_ceil(stride));
    let count = values.len() / (channels * height * width);
    let mut moved = vec![0.0; count * rows * columns * channels * stride * stride];
    for (at, pixel) in values.chunks_exact(channels).enumerate() {
        let (image, row, column) = (at / (height * width), at / width % height, at % width);
        let window = (image * rows + row / stride) * columns + column / stride;
        let place = window * stride * stride + row % stride * stride + column % stride;
        moved[place * channels..][..channels].copy_from_slice(pixel);
    }
    Features { channels: channels * stride * stride, height: rows, width: columns, values: moved }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }

    fn features(channels: usize, height: usize, width: usize, values: &[f32]) -> Features {
        Features { channels, height, width, values: values.to_vec() }
    }

    #[test]
    fn features_with_known_principal_components() {
        // Two uncorrelated channels of equal variance; the mean does not count.
        close(entropy(&features(2, 2, 2, &[1.0, 6.0, -1.0, 6.0, 1.0, 4.0, -1.0, 4.0])), 2f64.ln());
        // One direction.
        close(entropy(&features(2, 1, 2, &[1.0, 2.0, 3.0, 6.0])), 0.0);
        // Variances 9 and 1.
        let expected = -(0.9 * 0.9f64.ln() + 0.1 * 0.1f64.ln());
        close(entropy(&features(2, 2, 2, &[3.0, 1.0, -3.0, 1.0, 3.0, -1.0, -3.0, -1.0])), expected);
        assert_eq!(entropy(&features(1, 1, 2, &[4.0, 4.0])), f64::NEG_INFINITY);
    }

    #[test]
    fn gradients_with_known_singular_values() {
        let output = features(2, 2, 2, &[1.0, 1.0, -1.0, 1.0, 1.0, -1.0, -1.0, -1.0]);
        let times = |a: f32, b: f32| {
            let values = output.values.chunks(2).flat_map(|pixel| [a * pixel[0], b * pixel[1]]);
            features(2, 2, 2, &values.collect::<Vec<_>>())
        };
        // The channels of the output are uncorrelated, so the singular values are the factors.
        close(trainability(&times(-3.0, 0.5), &output), 2.0 - 3.0 - 1.0 / 3.0);
        close(trainability(&times(0.25, 0.5), &output), 2.0 - 0.5 - 2.0 + 4e-6);
        assert_eq!(trainability(&output, &output), f64::NEG_INFINITY);
    }

    #[test]
    fn positions_of_a_window_become_channels() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let moved = unshuffled(&features(1, 3, 4, &values), 2);
        assert_eq!((moved.channels, moved.height, moved.width), (4, 2, 2));
        let expected =
            [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0, 8.0, 9.0, 0.0, 0.0, 10.0, 11.0, 0.0, 0.0];
        assert_eq!(moved.values, expected);
    }
}
