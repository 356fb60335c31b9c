//! Stem and classifier.

use milenas_models::Result;
use milenas_models::kernels::cuda::mixture::Sources;
use milenas_models::kernels::cuda::norm::{self, CudaScaling, NormCoefficients, TermMaps, Terms, Weight};
use milenas_models::kernels::cuda::product::{ProductDims, row_products};
use milenas_models::kernels::cuda::stem_head::{self, BatchDims, Loss};
use milenas_models::kernels::cuda::{Device, Gemm, Words};

use super::cell::CellInput;
use super::pass::SupernetPass;
use crate::resident::{DeviceTensors, Packing};

/// Number of elements of a 3x3 kernel.
const TAPS: usize = 9;

/// Stem: `3x3` convolution and BatchNorm on the images. Only the ReLU of its output is read.
pub(super) struct CudaStem {
    from: usize,
    channels: usize,
    /// Indices of weight, gamma and beta.
    parameters: [usize; 3],
    norm: usize,
    /// Im2col buffer of the images.
    patches: Words,
    /// Feature map before the BatchNorm; then its gradient.
    map: Words,
    /// Scale and shift of the BatchNorm.
    factors: CudaScaling,
}

/// Offsets of the stem's parameters and statistics.
pub(super) struct StemPlan {
    packed: [usize; 3],
    moments: usize,
}

impl CudaStem {
    pub(super) fn new(from: usize, channels: usize, tensors: &mut DeviceTensors) -> CudaStem {
        let parameters = [
            tensors.parameter("stem.0.weight".into(), &[channels, from, 3, 3]),
            tensors.parameter("stem.1.weight".into(), &[channels]),
            tensors.parameter("stem.1.bias".into(), &[channels]),
        ];
        let (norm, none) = (tensors.norm("stem.1".into(), channels), Words::NONE);
        CudaStem { from, channels, parameters, norm, patches: none, map: none, factors: CudaScaling::NONE }
    }

    pub(super) fn alloc(&mut self, device: &mut dyn Device, pixels: usize) -> Result<()> {
        self.patches = device.alloc(TAPS * self.from * pixels)?;
        self.map = device.alloc(self.channels * pixels)?;
        self.factors = CudaScaling::alloc(device, self.channels)?;
        Ok(())
    }

    pub(super) fn plan(&self, tensors: &DeviceTensors, packing: &mut Packing, pixels: usize) -> StemPlan {
        let packed = self.parameters.map(|id| packing.put(tensors, [id]));
        let moments = packing.room(self.channels);
        packing.norm(self.norm, moments, pixels);
        StemPlan { packed, moments }
    }

    fn terms(&self, pass: &SupernetPass<'_>, plan: &StemPlan) -> Result<Terms> {
        let gamma = pass.weights.part(plan.packed[1], self.channels)?;
        Ok(Terms { weight: Weight::OfChannel(gamma), ..Terms::plain(1, self.channels) })
    }

    pub(super) fn forward(
        &self,
        pass: &mut SupernetPass<'_>,
        plan: &StemPlan,
        images: Words,
        out: CellInput,
    ) -> Result<()> {
        let [rows, columns] = out.size;
        let (length, taps) = (pass.batch * rows * columns, TAPS * self.from);
        let dims = BatchDims { batch: pass.batch, channels: self.from, rows, columns };
        stem_head::patches(pass.device, images, self.patches, dims)?;
        pass.device.gemm(&Gemm {
            sizes: [self.channels, length, taps],
            a: pass.weights.from(plan.packed[0])?,
            transposed: false,
            b: self.patches,
            c: self.map,
            steps: [0; 3],
            batch: 1,
            add: false,
        })?;
        let moments = pass.moments(plan.moments)?;
        if pass.training {
            norm::moments(pass.device, self.map, moments, self.channels, length)?;
        }
        let beta = pass.weights.part(plan.packed[2], self.channels)?;
        self.terms(pass, plan)?.scaling(pass.device, moments, beta, self.factors)?;
        norm::normalise(pass.device, self.map, self.factors, out.rectified, self.channels, length, true)
    }

    /// Computes the gradients of the parameters from the gradient of the output.
    pub(super) fn backward(
        &self,
        pass: &mut SupernetPass<'_>,
        plan: &StemPlan,
        out: CellInput,
    ) -> Result<()> {
        let length = pass.batch * out.size[0] * out.size[1];
        out.relu_gradient(pass)?;
        let [weight, gamma, beta] = plan.packed;
        let slopes = NormCoefficients {
            sum: pass.gradients.from(beta)?,
            reach: pass.gradients.from(gamma)?,
            ..pass.slopes()?
        };
        let moments = pass.moments(plan.moments)?;
        self.terms(pass, plan)?.coefficients(
            pass.device,
            out.gradient,
            TermMaps { z: self.map, x: Words::NONE },
            length,
            moments,
            &slopes,
        )?;
        let one =
            Sources { count: 1, first: Words::NONE, target: Words::NONE, size: [self.channels, length] };
        one.backward(pass.device, out.gradient, self.map, &slopes, self.map, false)?;
        let dims = ProductDims { m: self.channels, n: TAPS * self.from, length };
        row_products(pass.device, self.map, self.patches, pass.gradients.from(weight)?, false, 1, dims)
    }
}

/// Head: global average pooling, linear layer, loss.
pub(super) struct CudaHead {
    features: usize,
    classes: usize,
    /// Indices of weight and bias.
    parameters: [usize; 2],
    /// Means `[feature][image]`, and their gradient.
    means: Words,
    mean_gradients: Words,
    /// Logits `[class][image]`, and their gradient.
    logits: Words,
    logit_gradients: Words,
}

impl CudaHead {
    pub(super) fn new(features: usize, classes: usize, tensors: &mut DeviceTensors) -> CudaHead {
        let parameters = [
            tensors.parameter("classifier.weight".into(), &[classes, features]),
            tensors.parameter("classifier.bias".into(), &[classes]),
        ];
        let none = Words::NONE;
        CudaHead {
            features,
            classes,
            parameters,
            means: none,
            mean_gradients: none,
            logits: none,
            logit_gradients: none,
        }
    }

    pub(super) fn alloc(&mut self, device: &mut dyn Device, batch: usize) -> Result<()> {
        self.means = device.alloc(self.features * batch)?;
        self.mean_gradients = device.alloc(self.features * batch)?;
        self.logits = device.alloc(self.classes * batch)?;
        self.logit_gradients = device.alloc(self.classes * batch)?;
        Ok(())
    }

    pub(super) fn plan(&self, tensors: &DeviceTensors, packing: &mut Packing) -> [usize; 2] {
        self.parameters.map(|id| packing.put(tensors, [id]))
    }

    /// Computes the logits without the bias, from feature maps `[feature][image][pixel]`.
    pub(super) fn forward(
        &self,
        pass: &mut SupernetPass<'_>,
        packed: [usize; 2],
        maps: Words,
        pixels: usize,
    ) -> Result<()> {
        let rows = self.features * pass.batch;
        stem_head::row_sums(pass.device, maps, self.means, rows, pixels, 1.0 / pixels as f32)?;
        pass.device.gemm(&Gemm {
            sizes: [self.classes, pass.batch, self.features],
            a: pass.weights.from(packed[0])?,
            transposed: false,
            b: self.means,
            c: self.logits,
            steps: [0; 3],
            batch: 1,
            add: false,
        })
    }

    /// Reads the logits `[image][class]`, with the bias.
    pub(super) fn read(&self, pass: &mut SupernetPass<'_>, packed: [usize; 2]) -> Result<Vec<f32>> {
        let (mut by_class, mut bias) = (vec![0.0; self.classes * pass.batch], vec![0.0; self.classes]);
        pass.device.read(self.logits.part(0, by_class.len())?, &mut by_class)?;
        pass.device.read(pass.weights.part(packed[1], self.classes)?, &mut bias)?;
        let one =
            |i: usize| by_class[i % self.classes * pass.batch + i / self.classes] + bias[i % self.classes];
        Ok((0..by_class.len()).map(one).collect())
    }

    /// Computes each image's loss and correctness, and the gradient of the logits.
    pub(super) fn loss(
        &self,
        pass: &mut SupernetPass<'_>,
        packed: [usize; 2],
        labels: Words,
        [loss, right]: [Words; 2],
    ) -> Result<()> {
        let bias = pass.weights.part(packed[1], self.classes)?;
        let gradient = self.logit_gradients;
        let logits = self.logits;
        let loss = Loss { logits, bias, labels, loss, right, gradient, smoothing: 0.0, weight: 1.0 };
        stem_head::cross_entropy(pass.device, &loss, self.classes, pass.batch)
    }

    /// Computes the gradient of the feature maps from that of the logits.
    pub(super) fn backward(
        &self,
        pass: &mut SupernetPass<'_>,
        packed: [usize; 2],
        gradient: Words,
        pixels: usize,
    ) -> Result<()> {
        let (dy, batch) = (self.logit_gradients, pass.batch);
        if pass.wants_weights() {
            let [weight, bias] = [pass.gradients.from(packed[0])?, pass.gradients.from(packed[1])?];
            let dims = ProductDims { m: self.classes, n: self.features, length: batch };
            row_products(pass.device, dy, self.means, weight, false, 1, dims)?;
            stem_head::row_sums(pass.device, dy, bias, self.classes, batch, 1.0)?;
        }
        pass.device.gemm(&Gemm {
            sizes: [self.features, batch, self.classes],
            a: pass.weights.from(packed[0])?,
            transposed: true,
            b: dy,
            c: self.mean_gradients,
            steps: [0; 3],
            batch: 1,
            add: false,
        })?;
        let rows = self.features * batch;
        stem_head::spread(
            pass.device,
            self.mean_gradients,
            gradient,
            rows,
            pixels,
            1.0 / pixels as f32,
            false,
        )
    }
}
