//! Depthwise and pointwise convolutions.

use candle_core::Tensor;
use milenas_models::kernels::cuda::depthwise::{Depthwise, Input};
use milenas_models::kernels::cuda::product::row_products;
use milenas_models::kernels::cuda::{Device, Gemm};
use milenas_models::kernels::{Form, conv2d, relu};
use milenas_models::op::{Conv2d, Padding};

use crate::THREADS;
use crate::host::devices;
use crate::tensors::*;

fn convolve(x: &Tensor, w: &Tensor, g: &Depthwise) -> Tensor {
    let conv = Conv2d::depthwise(g.channels, g.kernel, g.stride, g.dilation);
    conv2d(&relu(x, Form::Slow).unwrap(), w, &conv, Form::Slow).unwrap()
}

fn maps(tensors: &[Tensor]) -> Vec<f32> {
    tensors.iter().flat_map(map).collect()
}

/// Slots that read one map, then each its own.
fn compare(device: &mut dyn Device, g: &Depthwise) {
    let Depthwise { kernel, slots, channels, batch, input: [rows, columns], .. } = *g;
    let normal = |shape: &[usize], seed| tensor(shape, seed, false);
    let name = |what: &str| format!("{what} of {g:?}");
    let weights: Vec<_> =
        (0..slots).map(|i| leaf(normal(&[channels, 1, kernel, kernel], 10 + i as u64))).collect();
    let upstream: Vec<_> =
        (0..slots).map(|i| normal(&[batch, channels, g.output[0], g.output[1]], 20 + i as u64)).collect();
    let w = put(device, &weights.iter().flat_map(|w| flat(w)).collect::<Vec<_>>());
    let dy = put(device, &maps(&upstream));
    let y = device.alloc(dy.len()).unwrap();
    let dw = device.alloc(w.len()).unwrap();

    let x = leaf(normal(&[batch, channels, rows, columns], 1));
    let results: Vec<_> = weights.iter().map(|w| convolve(&x, w, g)).collect();
    let pairs: Vec<_> = results.iter().cloned().zip(upstream.clone()).collect();
    let gradients = weighed(&pairs).backward().unwrap();
    let shared = Input::Shared(put(device, &map(&x)));
    let before = tensor(x.dims(), 2, false);
    let dx = put(device, &map(&before));
    g.forward(device, shared, w, y).unwrap();
    check(device, &name("shared"), y, &maps(&results));
    g.input_gradient(device, shared, w, dy, dx).unwrap();
    check(device, &name("dx, shared, added"), dx, &map(&(gradients.get(&x).unwrap() + before).unwrap()));
    g.weight_gradient(device, shared, dy, dw).unwrap();
    let expected: Vec<f32> = weights.iter().flat_map(|w| flat(gradients.get(w).unwrap())).collect();
    check(device, &name("dw, shared"), dw, &expected);

    let own: Vec<_> = (0..slots).map(|i| normal(&[batch, channels, rows, columns], 30 + i as u64)).collect();
    let factors: Vec<_> = (0..2 * slots).map(|i| normal(&[1, channels, 1, 1], 40 + i as u64)).collect();
    let (scales, shifts) = factors.split_at(slots);
    let scaled: Vec<_> = (0..slots)
        .map(|i| leaf(own[i].broadcast_mul(&scales[i]).unwrap().broadcast_add(&shifts[i]).unwrap()))
        .collect();
    let results: Vec<_> = scaled.iter().zip(&weights).map(|(x, w)| convolve(x, w, g)).collect();
    let pairs: Vec<_> = results.iter().cloned().zip(upstream).collect();
    let gradients = weighed(&pairs).backward().unwrap();
    let [scale, shift] =
        [scales, shifts].map(|all| put(device, &all.iter().flat_map(flat).collect::<Vec<_>>()));
    let own = Input::Scaled(put(device, &maps(&own)), [scale, shift]);
    let dx = device.alloc(slots * x.elem_count()).unwrap();
    g.forward(device, own, w, y).unwrap();
    check(device, &name("scaled"), y, &maps(&results));
    g.input_gradient(device, own, w, dy, dx).unwrap();
    let expected: Vec<f32> = scaled.iter().flat_map(|x| map(gradients.get(x).unwrap())).collect();
    check(device, &name("dx, scaled"), dx, &expected);
    g.weight_gradient(device, own, dy, dw).unwrap();
    let expected: Vec<f32> = weights.iter().flat_map(|w| flat(gradients.get(w).unwrap())).collect();
    check(device, &name("dw, scaled"), dw, &expected);
}

#[test]
fn depthwise_equals_its_definition() {
    for device in &mut devices(&THREADS) {
        for (kernel, stride, dilation) in
            [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2), (3, 2, 2), (5, 1, 2), (5, 2, 2)]
        {
            for (batch, input) in [(1, [7, 5]), (3, [4, 6]), (2, [1, 3]), (2, [8, 8])] {
                let output = input.map(|n: usize| n.div_ceil(stride));
                compare(
                    &mut **device,
                    &Depthwise { kernel, stride, dilation, slots: 2, channels: 3, batch, input, output },
                );
                device.release().unwrap();
            }
        }
    }
}

/// Maps of several tiles, and rows of images long enough to be cut into parts.
#[test]
fn large_maps_equal_their_definition() {
    for device in &mut devices(&THREADS) {
        for (kernel, stride, dilation) in [(3, 1, 1), (5, 1, 1), (3, 1, 2), (5, 1, 2), (3, 2, 1), (5, 2, 2)] {
            for (batch, input) in [(2, [41, 35]), (130, [8, 9])] {
                let output = input.map(|n: usize| n.div_ceil(stride));
                let g = Depthwise { kernel, stride, dilation, slots: 1, channels: 2, batch, input, output };
                compare(&mut **device, &g);
                device.release().unwrap();
            }
        }
    }
}

#[test]
fn other_kernels_are_refused() {
    for device in &mut devices(&[1]) {
        let g = Depthwise {
            kernel: 7,
            stride: 1,
            dilation: 1,
            slots: 1,
            channels: 1,
            batch: 1,
            input: [8, 8],
            output: [8, 8],
        };
        let x = zeros(&mut **device, 64);
        let error = g.forward(&mut **device, Input::Shared(x), x, x).unwrap_err().to_string();
        assert!(error.contains("kernels of 7"), "{error}");
        let g = Depthwise { kernel: 5, ..g };
        for g in [
            Depthwise { stride: 3, ..g },
            Depthwise { dilation: 3, ..g },
            Depthwise { dilation: 0, stride: 2, ..g },
            Depthwise { output: [8, 7], ..g },
        ] {
            let error = g.forward(&mut **device, Input::Shared(x), x, x).unwrap_err().to_string();
            assert!(error.contains("of 1 or 2"), "{error}");
        }
        let g = Depthwise { input: [8, 9], output: [8, 9], ..g };
        let error = g.forward(&mut **device, Input::Shared(x), x, x).unwrap_err().to_string();
        assert!(error.contains("words 0 to 72 of 64"), "{error}");
    }
}

/// A convolution of 1x1 is a product of matrices; so are its gradients.
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
            let ys: Vec<_> =
                xs.iter().zip(&ws).map(|(x, w)| conv2d(x, w, &conv, Form::Slow).unwrap()).collect();
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
            row_products(device, [dy, x, dw], false, slots, [to, from, length]).unwrap();
            let expected: Vec<f32> = ws.iter().flat_map(|w| flat(gradients.get(w).unwrap())).collect();
            check(device, &name("dw"), dw, &expected);

            // All slots read the first map.
            let again = Gemm { steps: [to * from, 0, to * length], ..forward };
            device.gemm(&again).unwrap();
            let ys: Vec<_> = ws.iter().map(|w| conv2d(&xs[0], w, &conv, Form::Slow).unwrap()).collect();
            check(device, &name("y of one map"), y, &maps(&ys));
            let gradients = weighed(&ys.into_iter().zip(upstream).collect::<Vec<_>>()).backward().unwrap();
            row_products(device, [dy, x, dw], true, slots, [to, from, length]).unwrap();
            let expected: Vec<f32> = ws.iter().flat_map(|w| flat(gradients.get(w).unwrap())).collect();
            check(device, &name("dw of one map"), dw, &expected);
            device.release().unwrap();
        }
    }
}
