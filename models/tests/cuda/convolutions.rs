//! Tests of depthwise and pointwise convolutions.

use candle_core::Tensor;
use milenas_models::kernels::cuda::depthwise::{ByKind, Depthwise, KINDS, SlotInput};
use milenas_models::kernels::cuda::norm::{CudaMoments, CudaScaling};
use milenas_models::kernels::cuda::pointwise::Pointwise;
use milenas_models::kernels::cuda::product::{ProductDims, row_products};
use milenas_models::kernels::cuda::{Device, Gemm};
use milenas_models::kernels::{self, Implementation, conv2d, relu};
use milenas_models::op::{Conv2d, Padding};

use crate::THREADS;
use crate::host::devices;
use crate::tensors::*;

fn convolve(x: &Tensor, w: &Tensor, kind: usize, g: &Depthwise) -> Tensor {
    let (kernel, dilation) = KINDS[kind];
    let conv = Conv2d::depthwise(g.channels, kernel, g.stride, dilation);
    conv2d(&relu(x, Implementation::Reference).unwrap(), w, &conv, Implementation::Reference).unwrap()
}

/// Returns memory for the weights of each kind, filled from `values` in order if given.
fn by_kind(device: &mut dyn Device, g: &Depthwise, values: Option<&[f32]>) -> ByKind {
    let mut before = 0;
    std::array::from_fn(|kind| {
        let len = g.weights(kind);
        before += len;
        match values {
            Some(values) => put(device, &values[before - len..before]),
            None => device.alloc(len).unwrap(),
        }
    })
}

fn check_by_kind(device: &mut dyn Device, name: &str, found: ByKind, expected: &[f32]) {
    let mut rest = expected;
    for words in found {
        let (own, others) = rest.split_at(words.len());
        check(device, name, words, own);
        rest = others;
    }
}

fn maps(tensors: &[Tensor]) -> Vec<f32> {
    tensors.iter().flat_map(map).collect()
}

/// Compares slots that share one input, then slots with an input each.
fn compare(device: &mut dyn Device, g: &Depthwise) {
    let Depthwise { channels, batch, input: [rows, columns], .. } = *g;
    let kinds: Vec<usize> = (0..KINDS.len()).flat_map(|kind| vec![kind; g.slots[kind]]).collect();
    let slots = kinds.len();
    let normal = |shape: &[usize], seed| tensor(shape, seed, false);
    let name = |what: &str| format!("{what} of {g:?}");
    let kernels = kinds.iter().map(|kind| KINDS[*kind].0);
    let weights = kernels.enumerate().map(|(i, k)| leaf(normal(&[channels, 1, k, k], 10 + i as u64)));
    let weights: Vec<_> = weights.collect();
    let upstream: Vec<_> =
        (0..slots).map(|i| normal(&[batch, channels, g.output[0], g.output[1]], 20 + i as u64)).collect();
    let values: Vec<f32> = weights.iter().flat_map(|w| flat(w)).collect();
    let w = by_kind(device, g, Some(&values));
    let dy = put(device, &maps(&upstream));
    let y = device.alloc(dy.len()).unwrap();
    let dw = by_kind(device, g, None);

    let x = leaf(normal(&[batch, channels, rows, columns], 1));
    let results: Vec<_> = weights.iter().zip(&kinds).map(|(w, kind)| convolve(&x, w, *kind, g)).collect();
    let pairs: Vec<_> = results.iter().cloned().zip(upstream.clone()).collect();
    let gradients = weighed(&pairs).backward().unwrap();
    let shared = SlotInput::Shared(put(device, &map(&x)));
    let before = tensor(x.dims(), 2, false);
    let dx = put(device, &map(&before));
    g.forward(device, shared, w, y).unwrap();
    check(device, &name("shared"), y, &maps(&results));
    g.input_gradient(device, shared, w, dy, dx).unwrap();
    check(device, &name("dx, shared, added"), dx, &map(&(gradients.get(&x).unwrap() + before).unwrap()));
    g.weight_gradient(device, shared, dy, dw).unwrap();
    let expected: Vec<f32> = weights.iter().flat_map(|w| flat(gradients.get(w).unwrap())).collect();
    check_by_kind(device, &name("dw, shared"), dw, &expected);

    let own: Vec<_> = (0..slots).map(|i| normal(&[batch, channels, rows, columns], 30 + i as u64)).collect();
    let factors: Vec<_> = (0..2 * slots).map(|i| normal(&[1, channels, 1, 1], 40 + i as u64)).collect();
    let (scales, shifts) = factors.split_at(slots);
    let scaled: Vec<_> = (0..slots)
        .map(|i| leaf(own[i].broadcast_mul(&scales[i]).unwrap().broadcast_add(&shifts[i]).unwrap()))
        .collect();
    let results: Vec<_> = (0..slots).map(|i| convolve(&scaled[i], &weights[i], kinds[i], g)).collect();
    let pairs: Vec<_> = results.iter().cloned().zip(upstream).collect();
    let gradients = weighed(&pairs).backward().unwrap();
    let [scale, shift] =
        [scales, shifts].map(|all| put(device, &all.iter().flat_map(flat).collect::<Vec<_>>()));
    let own = SlotInput::Scaled(put(device, &maps(&own)), CudaScaling { scale, shift });
    let dx = device.alloc(slots * x.elem_count()).unwrap();
    g.forward(device, own, w, y).unwrap();
    check(device, &name("scaled"), y, &maps(&results));
    g.input_gradient(device, own, w, dy, dx).unwrap();
    let expected: Vec<f32> = scaled.iter().flat_map(|x| map(gradients.get(x).unwrap())).collect();
    check(device, &name("dx, scaled"), dx, &expected);
    g.weight_gradient(device, own, dy, dw).unwrap();
    let expected: Vec<f32> = weights.iter().flat_map(|w| flat(gradients.get(w).unwrap())).collect();
    check_by_kind(device, &name("dw, scaled"), dw, &expected);
}

/// Each kind alone, and three kinds together.
const SLOTS: [[usize; 4]; 5] = [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 2], [1, 2, 0, 1]];

#[test]
fn depthwise_equals_its_definition() {
    for device in &mut devices(&THREADS) {
        for (slots, stride) in SLOTS.iter().flat_map(|slots| [(*slots, 1), (*slots, 2)]) {
            for (batch, input) in [(1, [7, 5]), (3, [4, 6]), (2, [1, 3]), (2, [8, 8])] {
                let output = input.map(|n: usize| n.div_ceil(stride));
                compare(&mut **device, &Depthwise { stride, slots, channels: 3, batch, input, output });
                device.release().unwrap();
            }
        }
    }
}

/// Feature maps of one tile of each size, full and not full, and of several tiles; and rows of images long enough to
/// be cut into parts.
#[test]
fn large_maps_equal_their_definition() {
    for device in &mut devices(&THREADS) {
        for (batch, input) in [(2, [41, 35]), (130, [8, 9]), (5, [16, 16]), (6, [32, 32]), (35, [8, 8])] {
            for (slots, stride) in [([1; 4], 1), ([1, 0, 0, 1], 2)] {
                let output = input.map(|n: usize| n.div_ceil(stride));
                compare(&mut **device, &Depthwise { stride, slots, channels: 2, batch, input, output });
                device.release().unwrap();
            }
        }
    }
}

#[test]
fn other_sizes_are_refused() {
    for device in &mut devices(&[1]) {
        let x = zeros(&mut **device, 64);
        let g = Depthwise {
            stride: 1,
            slots: [1, 0, 0, 0],
            channels: 1,
            batch: 1,
            input: [8, 8],
            output: [8, 8],
        };
        for g in [Depthwise { stride: 3, ..g }, Depthwise { output: [8, 7], ..g }] {
            let error = g.forward(&mut **device, SlotInput::Shared(x), [x; 4], x).unwrap_err().to_string();
            assert!(error.contains("of 1 or 2"), "{error}");
        }
        let g = Depthwise { input: [8, 9], output: [8, 9], ..g };
        let error = g.forward(&mut **device, SlotInput::Shared(x), [x; 4], x).unwrap_err().to_string();
        assert!(error.contains("words 0 to 72 of 64"), "{error}");
    }
}

/// A 1x1 convolution is a matrix product, and so are its gradients.
#[test]
fn pointwise_equals_its_definition() {
    for device in &mut devices(&THREADS) {
        for (slots, from, to, batch, [rows, columns]) in [
            (1, 3, 5, 2, [4, 5]),
            (3, 4, 4, 1, [7, 3]),
            (2, 9, 2, 3, [1, 1]),
            (1, 64, 10, 2, [2, 2]),
            (1, 20, 35, 3, [19, 21]),
        ] {
            let device = &mut **device;
            let name = |what: &str| format!("{what}, {slots} slots, {from} to {to} channels");
            let length = batch * rows * columns;
            let of = |shape: &[usize], seed| -> Vec<Tensor> {
                (0..slots).map(|i| tensor(shape, seed + i as u64, false)).collect()
            };
            let xs: Vec<_> = of(&[batch, from, rows, columns], 1).into_iter().map(leaf).collect();
            let ws: Vec<_> = of(&[to, from, 1, 1], 50).into_iter().map(leaf).collect();
            let upstream = of(&[batch, to, rows, columns], 80);
            let conv = Conv2d { padding: Padding::default(), ..Conv2d::pointwise(from, to) };
            let ys: Vec<_> = xs
                .iter()
                .zip(&ws)
                .map(|(x, w)| conv2d(x, w, &conv, Implementation::Reference).unwrap())
                .collect();
            let gradients =
                weighed(&ys.iter().cloned().zip(upstream.clone()).collect::<Vec<_>>()).backward().unwrap();

            let x = put(device, &xs.iter().flat_map(|x| map(x)).collect::<Vec<_>>());
            let w = put(device, &ws.iter().flat_map(|w| flat(w)).collect::<Vec<_>>());
            let dy = put(device, &maps(&upstream));
            let y = zeros(device, dy.len());
            let forward = Gemm {
                sizes: [to, length, from],
                a: w,
                transposed: false,
                b: x,
                c: y,
                steps: [to * from, from * length, to * length],
                batch: slots,
                add: false,
            };
            device.gemm(&forward).unwrap();
            check(device, &name("y"), y, &maps(&ys));
            let dx = put(device, &vec![1.0; x.len()]);
            let back = Gemm {
                sizes: [from, length, to],
                transposed: true,
                b: dy,
                c: dx,
                steps: [to * from, to * length, from * length],
                add: true,
                ..forward
            };
            device.gemm(&back).unwrap();
            let expected: Vec<f32> =
                xs.iter().flat_map(|x| map(gradients.get(x).unwrap())).map(|x| x + 1.0).collect();
            check(device, &name("dx, added"), dx, &expected);
            let dw = device.alloc(w.len()).unwrap();
            let dims = ProductDims { m: to, n: from, length };
            row_products(device, dy, x, dw, false, slots, dims).unwrap();
            let expected: Vec<f32> = ws.iter().flat_map(|w| flat(gradients.get(w).unwrap())).collect();
            check(device, &name("dw"), dw, &expected);

            // All slots read the first feature map.
            let again = Gemm { steps: [to * from, 0, to * length], ..forward };
            device.gemm(&again).unwrap();
            let ys: Vec<_> =
                ws.iter().map(|w| conv2d(&xs[0], w, &conv, Implementation::Reference).unwrap()).collect();
            check(device, &name("y of one map"), y, &maps(&ys));
            let gradients = weighed(&ys.into_iter().zip(upstream).collect::<Vec<_>>()).backward().unwrap();
            row_products(device, dy, x, dw, true, slots, dims).unwrap();
            let expected: Vec<f32> = ws.iter().flat_map(|w| flat(gradients.get(w).unwrap())).collect();
            check(device, &name("dw of one map"), dw, &expected);
            device.release().unwrap();
        }
    }
}

/// Every number of channels that has a kernel and one that has none; row lengths that are multiples of four pixels
/// and others; one part and several; moments of feature maps with nonzero means.
#[test]
fn pointwise_kernels_equal_their_definition() {
    for device in &mut devices(&THREADS) {
        for (channels, slots, batch, [rows, columns]) in [5, 16, 32, 64]
            .into_iter()
            .flat_map(|c| [(c, 2, 2, [4, 6]), (c, 1, 1, [3, 5]), (c, 2, 6, [24, 32])])
        {
            let device = &mut **device;
            let name =
                |what: &str| format!("{what}, {slots} of {channels} channels, {batch} of {rows}x{columns}");
            let shape = [batch, channels, rows, columns];
            let xs: Vec<_> = (0..slots).map(|i| leaf((tensor(&shape, i, false) + 1.0).unwrap())).collect();
            let ws: Vec<_> = (0..slots).map(|i| tensor(&[channels, channels, 1, 1], 50 + i, false)).collect();
            let upstream: Vec<_> = (0..slots).map(|i| tensor(&shape, 80 + i, false)).collect();
            let conv = Conv2d { padding: Padding::default(), ..Conv2d::pointwise(channels, channels) };
            let ys: Vec<_> = xs
                .iter()
                .zip(&ws)
                .map(|(x, w)| conv2d(x, w, &conv, Implementation::Reference).unwrap())
                .collect();
            let pairs: Vec<_> = ys.iter().cloned().zip(upstream.clone()).collect();
            let gradients = weighed(&pairs).backward().unwrap();

            let p = Pointwise { slots: slots as usize, channels, length: batch * rows * columns };
            let x = put(device, &xs.iter().flat_map(|x| map(x)).collect::<Vec<_>>());
            let w = put(device, &ws.iter().flat_map(flat).collect::<Vec<_>>());
            let [dy, y] = [put(device, &maps(&upstream)), device.alloc(x.len()).unwrap()];
            let moments = CudaMoments {
                mean: device.alloc(p.slots * channels).unwrap(),
                variance: device.alloc(p.slots * channels).unwrap(),
            };
            p.forward(device, w, x, y, Some(moments)).unwrap();
            check(device, &name("y"), y, &maps(&ys));
            let expected: Vec<_> = ys.iter().map(|y| kernels::BatchMoments::of_batch(y).unwrap()).collect();
            let [means, variances] =
                [|m: &kernels::BatchMoments| m.mean.clone(), |m: &kernels::BatchMoments| m.var.clone()]
                    .map(|of| expected.iter().flat_map(of).collect::<Vec<_>>());
            check(device, &name("mean"), moments.mean, &means);
            check(device, &name("variance"), moments.variance, &variances);
            let [again, dx] = [(); 2].map(|()| device.alloc(x.len()).unwrap());
            p.forward(device, w, x, again, None).unwrap();
            check(device, &name("y without moments"), again, &maps(&ys));
            p.backward(device, w, dy, dx).unwrap();
            let expected: Vec<f32> = xs.iter().flat_map(|x| map(gradients.get(x).unwrap())).collect();
            check(device, &name("dx"), dx, &expected);
            device.release().unwrap();
        }
    }
}
