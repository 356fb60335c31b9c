//! Tests of BatchNorm with a batch's own moments.

use candle_core::Tensor;
use milenas_models::kernels::cuda::mixture::Sources;
use milenas_models::kernels::cuda::norm::{
    self, CudaMoments, CudaScaling, NormCoefficients, TermMaps, Terms, Weight,
};
use milenas_models::kernels::cuda::{Device, Words};
use milenas_models::kernels::{self, Implementation, batch_norm};

use crate::THREADS;
use crate::host::devices;
use crate::tensors::*;

/// Epsilon of every BatchNorm.
pub const EPSILON: f64 = 1e-5;

pub fn normalised(x: &Tensor, affine: Option<(Tensor, Tensor)>) -> Tensor {
    let moments = kernels::BatchMoments::of_batch(x).unwrap();
    batch_norm(x, affine, moments, EPSILON, true, Implementation::Reference).unwrap()
}

pub fn slopes(device: &mut dyn Device, len: usize) -> NormCoefficients {
    let mut words = || device.alloc(len).unwrap();
    NormCoefficients { sum: words(), abc: [words(), words(), words()], reach: words() }
}

/// Compares an affine BatchNorm on values far from zero, whose variance a difference of squares would lose.
#[test]
fn batch_norm_equals_its_definition() {
    for device in &mut devices(&THREADS) {
        for (batch, [rows, columns], offset) in
            [(1, [5, 3], 0.0), (4, [3, 3], 100.0), (5, [1, 1], 0.0), (3, [8, 8], -7.0), (9, [16, 17], 1.0)]
        {
            let device = &mut **device;
            let (channels, length) = (3, batch * rows * columns);
            let name = |what: &str| format!("{what}, batch {batch} of {rows}x{columns}");
            let shape = [batch, channels, rows, columns];
            let x = leaf((tensor(&shape, 1, false) + offset).unwrap());
            let [gamma, beta] = [2, 3].map(|seed| leaf(tensor(&[channels], seed, false)));
            let upstream = tensor(&shape, 4, false);
            let y = normalised(&x, Some((gamma.as_tensor().clone(), beta.as_tensor().clone())));
            let gradients = weighed(&[(y.clone(), upstream.clone())]).backward().unwrap();

            let z = put(device, &map(&x));
            let moments = CudaMoments { mean: zeros(device, channels), variance: zeros(device, channels) };
            norm::moments(device, z, moments, channels, length).unwrap();
            let expected = kernels::BatchMoments::of_batch(&x).unwrap();
            check(device, &name("mean"), moments.mean, &expected.mean);
            // At this distance from zero, float32 represents the values themselves only to 1e-5.
            let variance = get(device, moments.variance);
            assert_close(
                &name("variance"),
                &variance,
                &expected.var,
                if offset > 10.0 { VALUES } else { TOLERANCE },
            );

            let terms =
                Terms { weight: Weight::OfChannel(put(device, &flat(&gamma))), ..Terms::plain(1, channels) };
            let bias = put(device, &flat(&beta));
            let factors = CudaScaling { scale: zeros(device, channels), shift: zeros(device, channels) };
            terms.scaling(device, moments, bias, factors).unwrap();
            let out = device.alloc(z.len()).unwrap();
            norm::normalise(device, z, factors, out, channels, length, false).unwrap();
            let tolerance = if offset > 10.0 { GRADIENTS } else { TOLERANCE };
            assert_close(&name("y"), &get(device, out), &map(&y), tolerance);
            norm::normalise(device, z, factors, out, channels, length, true).unwrap();
            assert_close(&name("relu y"), &get(device, out), &map(&y.relu().unwrap()), tolerance);

            let dy = put(device, &map(&upstream));
            let slopes = slopes(device, channels);
            let maps = TermMaps { z, x: Words::NONE };
            terms.coefficients(device, dy, maps, length, moments, &slopes).unwrap();
            assert_close(
                &name("dgamma"),
                &get(device, slopes.reach),
                &flat(gradients.get(&gamma).unwrap()),
                tolerance,
            );
            check(device, &name("dbeta"), slopes.sum, &flat(gradients.get(&beta).unwrap()));
            let sources =
                Sources { count: 1, first: Words::NONE, target: Words::NONE, size: [channels, length] };
            sources.backward(device, dy, z, &slopes, z, false).unwrap();
            assert_close(
                &name("dx"),
                &get(device, z),
                &map(gradients.get(&x).unwrap()),
                tolerance.max(VALUES),
            );
            device.release().unwrap();
        }
    }
}
