//! Tests of convolutions as products of im2col windows, and of means of windows.

use milenas_models::kernels::cuda::Gemm;
use milenas_models::kernels::cuda::convolution::{Convolution, Convolve, Way};
use milenas_models::kernels::cuda::windows::Windows;
use milenas_models::kernels::{Implementation, conv2d, pool2d};
use milenas_models::op::{Conv2d, Padding, Pool2d, PoolKind};

use crate::THREADS;
use crate::host::{convolving, devices};
use crate::tensors::*;

const CHANNELS: usize = 6;

fn windows(batch: usize, input: [usize; 2], output: &[usize], conv: &Conv2d) -> Windows {
    let Conv2d { kernel, stride, dilation, padding, .. } = *conv;
    let before = [padding.top as i32, padding.left as i32];
    let output = [output[2], output[3]];
    Windows { channels: CHANNELS, batch, input, output, kernel, stride, dilation, before }
}

/// Returns the kinds of convolutions that networks have and that no kernel computes: strided, dilated, with unequal
/// sides, depthwise, with padding past the edge.
fn convolutions() -> Vec<Conv2d> {
    let conv = |kernel| Conv2d::new(CHANNELS, 4, kernel);
    let odd = Padding { bottom: 1, right: 1, ..Padding::default() };
    let beside = Padding { left: 3, right: 3, ..Padding::default() };
    vec![
        conv(3).padding(Padding::all(1)).stride(2),
        conv(1).stride(2).padding(odd),
        conv(2),
        Conv2d { kernel: [1, 7], stride: [1, 2], ..conv(1).padding(beside) },
        Conv2d { groups: 2, dilation: [2, 1], ..conv(3).padding(Padding::all(2)) },
        Conv2d::depthwise(CHANNELS, 7, 2, 1),
    ]
}

#[test]
fn products_of_windows_are_convolutions() {
    for device in &mut devices(&THREADS) {
        for (conv, (batch, input)) in
            convolutions().iter().flat_map(|conv| [(1, [6, 7]), (3, [5, 4])].map(|size| (conv, size)))
        {
            let device = &mut **device;
            let x = leaf(tensor(&[batch, CHANNELS, input[0], input[1]], 1, false));
            let taps = conv.kernel[0] * conv.kernel[1];
            let (depth, rows) = (CHANNELS / conv.groups * taps, conv.out_channels / conv.groups);
            let w = tensor(
                &[conv.out_channels, CHANNELS / conv.groups, conv.kernel[0], conv.kernel[1]],
                2,
                false,
            );
            let expected = conv2d(&x, &w, conv, Implementation::Reference).unwrap();
            let upstream = tensor(expected.dims(), 3, false);
            let gradients = weighed(&[(expected.clone(), upstream.clone())]).backward().unwrap();
            let windows = windows(batch, input, expected.dims(), conv);
            let length = expected.elem_count() / conv.out_channels;

            let [seen, again] = [(); 2].map(|()| device.alloc(windows.seen()).unwrap());
            let (values, images) = (put(device, &map(&x)), put(device, &flat(&x)));
            windows.forward(device, values, seen, false).unwrap();
            windows.forward(device, images, again, true).unwrap();
            assert_eq!(get(device, seen), get(device, again), "images one after the other: {windows:?}");
            let (a, y) = (put(device, &flat(&w)), device.alloc(expected.elem_count()).unwrap());
            let (sizes, steps) = ([rows, length, depth], [rows * depth, depth * length, rows * length]);
            let batch = conv.groups;
            let product = Gemm { sizes, a, transposed: false, b: seen, c: y, steps, batch, add: false };
            device.gemm(&product).unwrap();
            check(device, &format!("y of {windows:?}"), y, &map(&expected));

            let (b, c) = (put(device, &map(&upstream)), seen);
            let (sizes, steps) = ([depth, length, rows], [rows * depth, rows * length, depth * length]);
            device.gemm(&Gemm { sizes, a, transposed: true, b, c, steps, batch, add: false }).unwrap();
            let before = tensor(x.dims(), 4, false);
            let dx = put(device, &map(&before));
            windows.backward(device, seen, dx).unwrap();
            let expected = (gradients.get(&x).unwrap() + before).unwrap();
            check(device, &format!("dx of {windows:?}, added"), dx, &map(&expected));
        }
    }
}

/// Tests the convolutions of a library, if the device has one.
#[test]
fn convolutions_of_a_library_are_convolutions() {
    let (mut devices, mut hosts) = (devices(&THREADS), convolving(&THREADS));
    // In a build with cuDNN, a GPU must support all of them.
    let devices = devices.iter_mut().map(|device| (device, cfg!(feature = "cudnn")));
    for (device, does) in devices.chain(hosts.iter_mut().map(|host| (host, true))) {
        for (conv, (batch, input)) in
            convolutions().iter().flat_map(|conv| [(1, [6, 7]), (3, [5, 4])].map(|size| (conv, size)))
        {
            let device = &mut **device;
            let x = leaf(tensor(&[batch, CHANNELS, input[0], input[1]], 1, false));
            let shape = [conv.out_channels, CHANNELS / conv.groups, conv.kernel[0], conv.kernel[1]];
            let w = leaf(tensor(&shape, 2, false));
            let expected = conv2d(&x, &w, conv, Implementation::Reference).unwrap();
            let upstream = tensor(expected.dims(), 3, false);
            let gradients = weighed(&[(expected.clone(), upstream.clone())]).backward().unwrap();
            let windows = windows(batch, input, expected.dims(), conv);
            let convolution = Convolution { windows, outputs: conv.out_channels, groups: conv.groups };
            let expected_to = does && convolution.padding().is_some();
            assert_eq!(device.convolves(&convolution).unwrap(), expected_to, "{convolution:?}");
            if !expected_to {
                continue;
            }
            let [values, weight, dy] = [map(&x), flat(&w), map(&upstream)].map(|values| put(device, &values));
            let [y, dw] = [&expected, w.as_tensor()].map(|like| device.alloc(like.elem_count()).unwrap());
            let before = tensor(x.dims(), 4, false);
            let dx = put(device, &map(&before));
            for (way, x, w, y) in [
                (Way::Forward, values, weight, y),
                (Way::ToWeight, values, dw, dy),
                (Way::ToInput, dx, weight, dy),
            ] {
                device.convolve(&Convolve { convolution, way, x, w, y }).unwrap();
            }
            check(device, &format!("y of {convolution:?}"), y, &map(&expected));
            check(device, &format!("dw of {convolution:?}"), dw, &flat(gradients.get(&w).unwrap()));
            let expected = (gradients.get(&x).unwrap() + before).unwrap();
            check(device, &format!("dx of {convolution:?}, added"), dx, &map(&expected));
        }
    }
}

#[test]
fn means_equal_their_definition() {
    let kind = PoolKind::Average { count_padding: false };
    let past = Padding { bottom: 1, right: 1, ..Padding::default() };
    let pools = [
        Pool2d { padding: Padding::default(), ..Pool2d::new(kind, 5, 3) },
        Pool2d { padding: past, ..Pool2d::new(kind, 2, 2) },
        Pool2d { stride: [2, 1], ..Pool2d::new(kind, 3, 1) },
    ];
    for device in &mut devices(&THREADS) {
        for (pool, (batch, input)) in
            pools.iter().flat_map(|pool| [(1, [8, 9]), (3, [7, 5])].map(|size| (pool, size)))
        {
            let device = &mut **device;
            let x = leaf(tensor(&[batch, CHANNELS, input[0], input[1]], 1, false));
            let expected = pool2d(&x, pool, Implementation::Reference).unwrap();
            let upstream = tensor(expected.dims(), 2, false);
            let gradients = weighed(&[(expected.clone(), upstream.clone())]).backward().unwrap();
            let Pool2d { kernel, stride, dilation, padding, .. } = *pool;
            let like = Conv2d { kernel, stride, dilation, padding, ..Conv2d::new(CHANNELS, CHANNELS, 1) };
            let windows = windows(batch, input, expected.dims(), &like);
            let (values, y) = (put(device, &map(&x)), device.alloc(expected.elem_count()).unwrap());
            windows.means(device, values, y).unwrap();
            check(device, &format!("means of {windows:?}"), y, &map(&expected));
            let before = tensor(x.dims(), 3, false);
            let (dx, dy) = (put(device, &map(&before)), put(device, &map(&upstream)));
            windows.means_back(device, dy, dx).unwrap();
            let expected = (gradients.get(&x).unwrap() + before).unwrap();
            check(device, &format!("dx of {windows:?}, added"), dx, &map(&expected));
        }
    }
}
