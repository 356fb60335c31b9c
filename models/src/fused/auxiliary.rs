//! The auxiliary head of training. Rows of a matrix are pixels, and every layer is a matrix product. Its input is so
//! small that one thread is enough.

use crate::kernels::cpu::norm::NormMoments;
use crate::kernels::cpu::simd::{floats, floats_mut};
use crate::kernels::cpu::{Channels, LANES, Pack};
use crate::kernels::matmul::{Matrix, matmul};

use super::loss::cross_entropy;
use super::norm::{AffineNorm, Statistics};
use super::parameters::{Gradients, Id, Parameters};
use super::view::MapView;

/// A matrix product, an optional BatchNorm, and a ReLU.
pub struct AuxiliaryLayer {
    /// Weight, `[outputs, inputs]`.
    pub weight: Id,
    /// Number of inputs per row.
    pub inputs: usize,
    /// Number of outputs per row.
    pub outputs: usize,
    /// BatchNorm or identity after the product.
    pub norm: AffineNorm,
    /// Input of the last forward pass, `[row][inputs]`.
    source: Vec<f32>,
    /// Products of the last forward pass, before the norm.
    made: Vec<f32>,
}

impl AuxiliaryLayer {
    /// Returns a layer whose weight is [plain](Parameters::plain).
    pub fn new(weight: Id, inputs: usize, outputs: usize, norm: AffineNorm) -> AuxiliaryLayer {
        AuxiliaryLayer { weight, inputs, outputs, norm, source: Vec::new(), made: Vec::new() }
    }

    fn rows(&self) -> usize {
        self.source.len() / self.inputs
    }

    /// Returns the sums over rows of `of`, per column. `of` takes an index into `made`.
    fn sums(&self, of: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.outputs];
        for row in 0..self.rows() {
            let at = row * self.outputs;
            sums.iter_mut().enumerate().for_each(|(column, sum)| *sum += of(at + column));
        }
        sums
    }

    fn forward(&mut self, p: &Parameters, source: Vec<f32>, statistics: &mut Statistics) -> Vec<f32> {
        self.source = source;
        let (rows, inputs, outputs) = (self.rows(), self.inputs, self.outputs);
        self.made.resize(rows * outputs, 0.0);
        let weight = Matrix::rows(floats(&p.values[self.weight]), inputs).t();
        matmul(rows, inputs, outputs, Matrix::rows(&self.source, inputs), weight, &mut self.made, false);
        let sum = self.sums(|i| f64::from(self.made[i]));
        let square = self.sums(|i| f64::from(self.made[i]).powi(2));
        let count = rows as f64;
        self.norm.train(p, &NormMoments::of(sum, square, count), count, statistics);
        (0..self.made.len()).map(|i| self.normed(i).max(0.0)).collect()
    }

    /// Returns a product after the norm.
    fn normed(&self, i: usize) -> f32 {
        let scaling = &self.norm.scaling;
        let column = i % self.outputs;
        floats(&scaling.scale)[column] * self.made[i] + floats(&scaling.shift)[column]
    }

    /// Returns the gradient of the source, from the gradient of the output.
    fn backward(&mut self, p: &Parameters, mut gradient: Vec<f32>, weights: &mut Gradients) -> Vec<f32> {
        for (i, g) in gradient.iter_mut().enumerate() {
            if self.normed(i) <= 0.0 {
                *g = 0.0;
            }
        }
        let (rows, inputs, outputs) = (self.rows(), self.inputs, self.outputs);
        let sum = self.sums(|i| f64::from(gradient[i]));
        let dot = self.sums(|i| f64::from(gradient[i]) * f64::from(self.made[i]));
        self.norm.backward(p, &sum, &dot, rows as f64, weights);
        let slope = &self.norm.slope;
        let [a, b, c] = [&slope.a, &slope.b, &slope.c].map(|x| floats(x));
        for (i, (g, y)) in gradient.iter_mut().zip(&self.made).enumerate() {
            let column = i % outputs;
            *g = a[column] * *g + b[column] * y + c[column];
        }
        let (dy, source) = (Matrix::rows(&gradient, outputs), Matrix::rows(&self.source, inputs));
        matmul(outputs, rows, inputs, dy.t(), source, floats_mut(&mut weights.values[self.weight]), false);
        let mut out = vec![0.0; rows * inputs];
        let weight = Matrix::rows(floats(&p.values[self.weight]), inputs);
        matmul(rows, outputs, inputs, dy, weight, &mut out, false);
        out
    }
}

/// The final linear layer.
pub struct AuxiliaryClassifier {
    /// Weight `[classes, features]`, [plain](Parameters::plain).
    pub weight: Id,
    /// Bias, `[classes]`.
    pub bias: Id,
    /// Number of classes.
    pub classes: usize,
}

/// An auxiliary head: see [`Trainable`](crate::assemble::Trainable).
pub struct Auxiliary {
    /// Channels of the input.
    channels: Channels,
    /// Side of the pooling windows, in pixels.
    window: usize,
    stride: usize,
    /// Rows and columns of the pooled input.
    size: [usize; 2],
    /// The `1x1` convolution, then the `2x2` convolution.
    layers: [AuxiliaryLayer; 2],
    classifier: AuxiliaryClassifier,
    features: Vec<f32>,
    logits: Vec<f32>,
}

/// Side of the kernel of the second convolution.
pub const SIDE: usize = 2;

impl Auxiliary {
    /// Returns a head for an input with `channels`, which is pooled to `size` rows and columns by square windows.
    pub fn new(
        channels: Channels,
        window: usize,
        stride: usize,
        size: [usize; 2],
        layers: [AuxiliaryLayer; 2],
        classifier: AuxiliaryClassifier,
    ) -> Auxiliary {
        let (features, logits) = (Vec::new(), Vec::new());
        Auxiliary { channels, window, stride, size, layers, classifier, features, logits }
    }

    /// Rows and columns of the output of the second convolution.
    fn last(&self) -> [usize; 2] {
        self.size.map(|n| n + 1 - SIDE)
    }

    /// Computes the logits, in training mode.
    pub fn forward(&mut self, p: &Parameters, input: MapView<'_>, batch: usize, statistics: &mut Statistics) {
        let pooled = self.pool(input, batch);
        let first = self.layers[0].forward(p, pooled, statistics);
        let patches = self.patches(&first, batch);
        let second = self.layers[1].forward(p, patches, statistics);
        let (width, pixels) = (self.layers[1].outputs, self.last().iter().product::<usize>());
        self.features.clear();
        for image in second.chunks_exact(pixels * width) {
            let mean = |c: usize| image.iter().skip(c).step_by(width).sum::<f32>() / pixels as f32;
            self.features.extend((0..width).map(mean));
        }
        let AuxiliaryClassifier { weight, bias, classes } = self.classifier;
        self.logits.clear();
        for _ in 0..batch {
            self.logits.extend(&floats(&p.values[bias])[..classes]);
        }
        let weight = Matrix::rows(floats(&p.values[weight]), width).t();
        matmul(batch, width, classes, Matrix::rows(&self.features, width), weight, &mut self.logits, true);
    }

    /// Returns the [`cross_entropy`] of the logits, and replaces the logits by its gradient times `weight`.
    pub fn loss(&mut self, labels: &[u32], smoothing: f64, weight: f64) -> f64 {
        cross_entropy(&mut self.logits, self.classifier.classes, labels, smoothing, weight).0
    }

    /// Adds the gradient of the input to `gradient`, which has the layout of the input, from the gradient of the
    /// logits.
    pub fn backward(
        &mut self,
        p: &Parameters,
        input: MapView<'_>,
        gradient: &mut [Pack],
        weights: &mut Gradients,
    ) {
        let AuxiliaryClassifier { weight, bias, classes } = self.classifier;
        let batch = self.logits.len() / classes;
        let (width, pixels) = (self.layers[1].outputs, self.last().iter().product::<usize>());
        let (dy, features) = (Matrix::rows(&self.logits, classes), Matrix::rows(&self.features, width));
        matmul(classes, batch, width, dy.t(), features, floats_mut(&mut weights.values[weight]), false);
        let sums = floats_mut(&mut weights.values[bias]);
        sums.fill(0.0);
        for row in self.logits.chunks_exact(classes) {
            sums.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
        }
        let mut each = vec![0.0; batch * width];
        let weight = Matrix::rows(floats(&p.values[weight]), width);
        matmul(batch, classes, width, dy, weight, &mut each, false);
        each.iter_mut().for_each(|g| *g /= pixels as f32);
        let second = each.chunks_exact(width).flat_map(|row| row.repeat(pixels)).collect();
        let patches = self.layers[1].backward(p, second, weights);
        let first = self.unpatch(&patches, batch);
        let pooled = self.layers[0].backward(p, first, weights);
        self.pool_back(input, &pooled, gradient);
    }

    /// Iterates over the output pixels of the second convolution: the index of the output row, and the indices of the
    /// input rows, tap by tap.
    fn taps(&self, batch: usize) -> impl Iterator<Item = (usize, [usize; SIDE * SIDE])> + use<> {
        let ([height, width], [rows, columns]) = (self.size, self.last());
        (0..batch * rows * columns).map(move |row| {
            let (image, y, x) = (row / (rows * columns), row / columns % rows, row % columns);
            let tap = |i: usize| (image * height + y + i / SIDE) * width + x + i % SIDE;
            (row, std::array::from_fn(tap))
        })
    }

    /// Returns the patches of the second convolution, `[row][channel][tap]`.
    fn patches(&self, source: &[f32], batch: usize) -> Vec<f32> {
        let channels = self.layers[0].outputs;
        let mut out = Vec::with_capacity(self.layers[1].inputs * batch);
        for (_, taps) in self.taps(batch) {
            out.extend((0..channels).flat_map(|c| taps.map(|tap| source[tap * channels + c])));
        }
        out
    }

    fn unpatch(&self, gradient: &[f32], batch: usize) -> Vec<f32> {
        let (channels, inputs) = (self.layers[0].outputs, self.layers[1].inputs);
        let mut out = vec![0.0; batch * self.size[0] * self.size[1] * channels];
        for (row, taps) in self.taps(batch) {
            for (i, g) in gradient[row * inputs..][..inputs].iter().enumerate() {
                out[taps[i % taps.len()] * channels + i / taps.len()] += g;
            }
        }
        out
    }

    /// Iterates over the pooling windows: the index of the output row, and the indices of the window's pixels in the
    /// plane of an image.
    fn windows(
        &self,
        plane: usize,
    ) -> impl Iterator<Item = (usize, impl Iterator<Item = usize> + use<>)> + use<> {
        let (columns, window, stride) = (self.size[1], self.window, self.stride);
        (0..self.size[0] * columns).map(move |row| {
            let (top, left) = (row / columns * stride, row % columns * stride);
            (row, (0..window * window).map(move |i| (top + i / window) * plane + left + i % window))
        })
    }

    /// Returns means of the input after ReLU, `[image, pixel][channel]`.
    fn pool(&self, input: MapView<'_>, batch: usize) -> Vec<f32> {
        let (pixels, count) = (input.map.pixels(), self.channels.count());
        let rows = self.size[0] * self.size[1];
        let mut out = vec![0.0; batch * rows * count];
        let mut lanes = vec![0.0; input.map.packs * LANES];
        for i in 0..batch {
            for (row, window) in self.windows(input.map.width) {
                lanes.fill(0.0);
                for pixel in window {
                    for (plane, lanes) in
                        input.image(i).chunks_exact(pixels).zip(lanes.chunks_exact_mut(LANES))
                    {
                        lanes.iter_mut().zip(plane[pixel].0).for_each(|(sum, x)| *sum += x.max(0.0));
                    }
                }
                let out = &mut out[(i * rows + row) * count..][..count];
                let area = (self.window * self.window) as f32;
                out.iter_mut().enumerate().for_each(|(c, x)| *x = lanes[self.channels.lane(c)] / area);
            }
        }
        out
    }

    fn pool_back(&self, input: MapView<'_>, pooled: &[f32], gradient: &mut [Pack]) {
        let (pixels, count) = (input.map.pixels(), self.channels.count());
        let rows = self.size[0] * self.size[1];
        let mut lanes = vec![0.0; input.map.packs * LANES];
        for (i, pooled) in pooled.chunks_exact(rows * count).enumerate() {
            let gradient = &mut gradient[i * input.place.image + input.place.offset..][..input.map.len()];
            for (row, window) in self.windows(input.map.width) {
                let area = (self.window * self.window) as f32;
                for (c, g) in pooled[row * count..][..count].iter().enumerate() {
                    lanes[self.channels.lane(c)] = g / area;
                }
                for pixel in window {
                    let planes = input.image(i).chunks_exact(pixels).zip(gradient.chunks_exact_mut(pixels));
                    for ((source, to), lanes) in planes.zip(lanes.chunks_exact(LANES)) {
                        for (lane, g) in lanes.iter().enumerate() {
                            if source[pixel].0[lane] > 0.0 {
                                to[pixel].0[lane] += g;
                            }
                        }
                    }
                }
            }
        }
    }
}
