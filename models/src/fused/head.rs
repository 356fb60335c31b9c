//! The head of a network: mean over pixels, linear layer, cross-entropy.

use crate::kernels::cpu::simd::{floats, floats_mut};
use crate::kernels::cpu::{Channels, LANES, Pack};

use super::loss::cross_entropy;
use super::parameters::{Gradients, Id, Parameters};
use super::view::MapView;

/// The classifier.
#[derive(Clone)]
pub struct Head {
    classes: usize,
    weight: Id,
    bias: Id,
    /// Whether ReLU is applied to the input.
    pub applies_relu: bool,
    /// Means over pixels, `[image][lane]`.
    features: Vec<f32>,
    /// Logits, `[image][class]`.
    pub logits: Vec<f32>,
}

impl Head {
    /// Returns a head with a weight and a bias of the given names.
    pub fn new(
        weight: String,
        bias: String,
        inputs: Channels,
        classes: usize,
        applies_relu: bool,
        parameters: &mut Parameters,
    ) -> Head {
        let weight = parameters.pointwise(weight, vec![classes, inputs.count()], inputs);
        let bias = parameters.vector(bias, classes);
        Head { classes, weight, bias, applies_relu, features: Vec::new(), logits: Vec::new() }
    }

    /// Computes the logits of a batch.
    pub fn forward(&mut self, parameters: &Parameters, input: MapView<'_>, batch: usize) {
        self.features.clear();
        self.logits.clear();
        for i in 0..batch {
            self.add(parameters, std::iter::once(input.image(i)), input.map.pixels());
        }
    }

    /// Computes the logits of one image, whose feature map is given in parts.
    pub fn answer<'a>(
        &mut self,
        parameters: &Parameters,
        parts: impl Iterator<Item = &'a [Pack]>,
        pixels: usize,
    ) {
        self.features.clear();
        self.logits.clear();
        self.add(parameters, parts, pixels);
    }

    fn add<'a>(&mut self, parameters: &Parameters, parts: impl Iterator<Item = &'a [Pack]>, pixels: usize) {
        let first = self.features.len();
        let floor = if self.applies_relu { 0.0 } else { f32::NEG_INFINITY };
        for plane in parts.flat_map(|part| part.chunks_exact(pixels)) {
            let mut sum = [0.0; LANES];
            for pack in plane {
                sum.iter_mut().zip(pack.0).for_each(|(sum, x)| *sum += x.max(floor));
            }
            self.features.extend(sum.map(|x| x / pixels as f32));
        }
        let features = &self.features[first..];
        let (weight, bias) = (&parameters.values[self.weight], floats(&parameters.values[self.bias]));
        for class in 0..self.classes {
            let column = &weight[class / LANES * features.len()..][..features.len()];
            let products = column.iter().zip(features).map(|(w, x)| f64::from(w.0[class % LANES] * x));
            self.logits.push((f64::from(bias[class]) + products.sum::<f64>()) as f32);
        }
    }

    /// Returns the means of the first image, `[channels]`, for an input with these channels.
    pub fn features(&self, channels: Channels) -> impl Iterator<Item = f32> {
        (0..channels.count()).map(move |i| self.features[channels.lane(i)])
    }

    /// Returns the [`cross_entropy`] of the logits and the number of correct predictions, and replaces the logits by
    /// their gradient.
    pub fn loss(&mut self, labels: &[u32], smoothing: f64) -> (f64, usize) {
        cross_entropy(&mut self.logits, self.classes, labels, smoothing, 1.0)
    }

    /// Computes the gradients of the input and of the weights, from the gradient of the logits that [`Self::loss`]
    /// stores.
    pub fn backward(
        &self,
        parameters: &Parameters,
        input: MapView<'_>,
        gradient: &mut [Pack],
        weights: Option<&mut Gradients>,
    ) {
        let (pixels, packs) = (input.map.pixels(), input.map.packs);
        let lanes = packs * LANES;
        let images = self.logits.chunks_exact(self.classes).zip(self.features.chunks_exact(lanes));
        if let Some(weights) = weights {
            weights.values[self.weight].fill(Pack::ZERO);
            weights.values[self.bias].fill(Pack::ZERO);
            for (logits, features) in images.clone() {
                for (class, g) in logits.iter().enumerate() {
                    let column = &mut weights.values[self.weight][class / LANES * lanes..][..lanes];
                    column.iter_mut().zip(features).for_each(|(w, x)| w.0[class % LANES] += g * x);
                    floats_mut(&mut weights.values[self.bias])[class] += g;
                }
            }
        }
        for (i, (logits, _)) in images.enumerate() {
            let image = &mut gradient[i * input.place.image + input.place.offset..][..input.map.len()];
            for (block, plane) in image.chunks_exact_mut(pixels).enumerate() {
                let mut value = Pack::ZERO;
                for (lane, x) in value.0.iter_mut().enumerate() {
                    for (class, g) in logits.iter().enumerate() {
                        let weight = &parameters.values[self.weight][class / LANES * lanes..];
                        *x += weight[block * LANES + lane].0[class % LANES] * g;
                    }
                    *x /= pixels as f32;
                }
                plane.fill(value);
                if self.applies_relu {
                    let source = &input.image(i)[block * pixels..][..pixels];
                    let lanes = plane.iter_mut().zip(source).flat_map(|(g, x)| g.0.iter_mut().zip(x.0));
                    lanes.filter(|(_, x)| *x <= 0.0).for_each(|(g, _)| *g = 0.0);
                }
            }
        }
    }
}
