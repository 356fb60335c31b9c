//! Tests of ReLU, FactorizedReduce, and the stem and head of a network.

use candle_core::{Device as Place, Tensor};
use milenas_models::kernels::cuda::relu::{self, Halve};
use milenas_models::kernels::cuda::stem_head::{self, BatchDims, Loss};
use milenas_models::kernels::cuda::{Device, Gemm};
use milenas_models::kernels::{Implementation, conv2d, relu};
use milenas_models::op::{Conv2d, Padding};

use crate::THREADS;
use crate::host::devices;
use crate::numbers::cross_entropy;
use crate::tensors::*;

#[test]
fn relu_equals_its_definition() {
    for device in &mut devices(&THREADS) {
        let device = &mut **device;
        // Some values are zero, where the gradient is zero too.
        let x = leaf(tensor(&[2, 3, 5, 3], 1, true));
        let upstream = tensor(x.dims(), 2, false);
        let y = relu(&x, Implementation::Reference).unwrap();
        let gradients = weighed(&[(y.clone(), upstream.clone())]).backward().unwrap();
        let (values, dy) = (put(device, &flat(&x)), put(device, &flat(&upstream)));
        let out = device.alloc(values.len()).unwrap();
        relu::forward(device, values, out, values.len()).unwrap();
        check(device, "y", out, &flat(&y));
        let before = tensor(x.dims(), 3, false);
        let dx = put(device, &flat(&before));
        relu::backward(device, out, dy, dx, values.len(), true).unwrap();
        let expected = gradients.get(&x).unwrap();
        check(device, "dx, added", dx, &flat(&(expected + before).unwrap()));
        relu::backward(device, out, dy, dy, values.len(), false).unwrap();
        check(device, "dx", dy, &flat(expected));
    }
}

/// Strided 1x1 convolutions with weight 1, of the feature map and of the feature map without its first row and
/// column, as in the graph.
#[test]
fn halves_equal_their_definition() {
    for device in &mut devices(&THREADS) {
        for (batch, [rows, columns]) in [(1, [4, 6]), (3, [5, 7]), (2, [2, 3])] {
            let device = &mut **device;
            let x = leaf(tensor(&[batch, 1, rows, columns], 1, false));
            let one = tensor(&[1, 1, 1, 1], 0, false).ones_like().unwrap();
            let conv = Conv2d::pointwise(1, 1).stride(2);
            let odd = Padding { bottom: rows % 2, right: columns % 2, ..Padding::default() };
            let positive = relu(&x, Implementation::Reference).unwrap();
            let shifted = positive.narrow(2, 1, rows - 1).unwrap().narrow(3, 1, columns - 1).unwrap();
            let even = conv2d(&positive, &one, &conv, Implementation::Reference).unwrap();
            let odd = conv2d(&shifted, &one, &conv.clone().padding(odd), Implementation::Reference).unwrap();
            let upstream = [2, 3].map(|seed| tensor(even.dims(), seed, false));
            let pairs = [(even.clone(), upstream[0].clone()), (odd.clone(), upstream[1].clone())];
            let gradients = weighed(&pairs).backward().unwrap();

            let output = [rows.div_ceil(2), columns.div_ceil(2)];
            let halve = Halve { planes: batch, input: [rows, columns], output };
            let values = put(device, &map(&x));
            let y = device.alloc(2 * even.elem_count()).unwrap();
            halve.forward(device, values, y).unwrap();
            check(device, "halves", y, &[map(&even), map(&odd)].concat());
            let before = tensor(x.dims(), 4, false);
            let dx = put(device, &map(&before));
            let dy = put(device, &upstream.iter().flat_map(map).collect::<Vec<_>>());
            halve.backward(device, values, dy, dx).unwrap();
            check(device, "dx, added", dx, &map(&(gradients.get(&x).unwrap() + before).unwrap()));
        }
    }
}

/// Images shifted into the crop, mirrored, black outside, normalised by channel, with a hole of zeros. The numbers of
/// bytes are multiples of four and others.
#[test]
fn images_are_moved_and_normalised() {
    for device in &mut devices(&THREADS) {
        for [batch, channels, rows, columns] in [[4, 3, 5, 7], [3, 1, 3, 3], [2, 3, 8, 8]] {
            let device = &mut **device;
            let mut rng = milenas_models::Rng::new(1, "bytes");
            let count = batch * channels * rows * columns;
            let mut bytes: Vec<u8> = (0..count).map(|_| rng.below(256) as u8).collect();
            let mut draw = |side: usize| rng.below(2 * side + 3) as i32 - side as i32 - 1;
            // The last image has no hole.
            let hole = |i: usize| if i + 1 < batch { [1, 3, 0, 2] } else { [2; 4] };
            let mut move_of = |i: usize| {
                let [top, bottom, left, right] = hole(i);
                [draw(rows), draw(columns), i as i32 % 2, top, bottom, left, right]
            };
            let moves: Vec<[i32; stem_head::MOVE]> = (0..batch).map(&mut move_of).collect();
            let level = |channel: usize, byte: u8| f32::from(byte) / (2.0 + channel as f32) - 3.0;
            let mut expected = Vec::new();
            for i in 0..count {
                let (column, row) = ((i % columns) as i32, (i / columns % rows) as i32);
                let (channel, image) = (i / (rows * columns) % channels, i / (rows * columns * channels));
                let [down, right, mirrored, ..] = moves[image];
                let [top, bottom, first, past] = hole(image);
                let hole = (top..bottom).contains(&row) && (first..past).contains(&column);
                let column = if mirrored == 1 { columns as i32 - 1 - column } else { column };
                let inside = |at: i32, side: usize| usize::try_from(at).ok().filter(|&at| at < side);
                let byte = match (inside(row + down, rows), inside(column + right, columns)) {
                    (Some(r), Some(c)) => bytes[((image * rows + r) * columns + c) * channels + channel],
                    _ => 0,
                };
                expected.push(if hole { 0.0 } else { level(channel, byte) });
            }
            bytes.resize(count.next_multiple_of(4), 0);
            let words: Vec<i32> =
                bytes.chunks(4).map(|four| i32::from_ne_bytes(four.try_into().unwrap())).collect();
            let levels: Vec<f32> =
                (0..channels).flat_map(|c| (0..=255).map(move |byte| level(c, byte))).collect();
            let bytes = stem_head::ByteImages {
                words: put_ints(device, &words),
                moves: put_ints(device, moves.as_flattened()),
                levels: put(device, &levels),
            };
            let out = device.alloc(count).unwrap();
            stem_head::augment(device, &bytes, out, BatchDims { batch, channels, rows, columns }).unwrap();
            assert_eq!(get(device, out), expected);
        }
    }
}

#[test]
fn patches_make_a_convolution_of_3x3() {
    for device in &mut devices(&THREADS) {
        for (batch, [rows, columns]) in [(1, [4, 6]), (3, [5, 3])] {
            let device = &mut **device;
            let x = tensor(&[batch, 2, rows, columns], 1, false);
            let w = tensor(&[5, 2, 3, 3], 2, false);
            let conv = Conv2d::new(2, 5, 3).padding(Padding::all(1));
            let expected = conv2d(&x, &w, &conv, Implementation::Reference).unwrap();
            let images = put(device, &flat(&x));
            let b = device.alloc(9 * images.len()).unwrap();
            stem_head::patches(device, images, b, BatchDims { batch, channels: 2, rows, columns }).unwrap();
            let (a, c) = (put(device, &flat(&w)), device.alloc(expected.elem_count()).unwrap());
            let sizes = [5, batch * rows * columns, 18];
            device
                .gemm(&Gemm { sizes, a, transposed: false, b, c, steps: [0; 3], batch: 1, add: false })
                .unwrap();
            check(device, "y", c, &map(&expected));
        }
    }
}

#[test]
fn rows_are_summed_and_spread() {
    for device in &mut devices(&THREADS) {
        let device = &mut **device;
        let x = tensor(&[5, 37], 1, false);
        let values = put(device, &flat(&x));
        let y = device.alloc(5).unwrap();
        stem_head::row_sums(device, values, y, 5, 37, 1.0 / 37.0).unwrap();
        check(device, "means", y, &flat(&x.mean(1).unwrap()));
        stem_head::spread(device, y, values, 5, 37, 3.0, true).unwrap();
        let expected = (x.mean_keepdim(1).unwrap() * 3.0).unwrap().broadcast_as((5, 37)).unwrap();
        check(device, "spread, added", values, &flat(&(&expected + x).unwrap()));
        stem_head::spread(device, y, values, 5, 37, 3.0, false).unwrap();
        check(device, "spread", values, &flat(&expected));
    }
}

#[test]
fn losses_equal_their_definition() {
    for device in &mut devices(&THREADS) {
        loss_equals_its_definition(&mut **device, 0.0, 1.0);
        loss_equals_its_definition(&mut **device, 0.1, 0.4);
    }
}

fn loss_equals_its_definition(device: &mut dyn Device, smoothing: f64, weight: f64) {
    let (batch, classes) = (5, 4);
    // Large logits too, whose exponentials alone would be infinite.
    let logits = leaf((tensor(&[batch, classes], 1, false) * 60.0).unwrap());
    let labels = [3u32, 0, 1, 1, 2];
    let of_label = cross_entropy(&logits, &Tensor::new(&labels, &Place::Cpu).unwrap());
    let even =
        (0..classes as u32).map(|k| cross_entropy(&logits, &Tensor::new(&[k; 5], &Place::Cpu).unwrap()));
    let even = even.reduce(|a, b| (a + b).unwrap()).unwrap();
    let mean =
        ((of_label * (1.0 - smoothing)).unwrap() + (even * (smoothing / classes as f64)).unwrap()).unwrap();
    let gradients = (&mean * weight).unwrap().backward().unwrap();
    let bias = Tensor::new(&[0.5f32, -1.0, 2.0, 0.25], &Place::Cpu).unwrap();
    let by_class = |rows: &Tensor| flat(&rows.t().unwrap().contiguous().unwrap());
    let [loss, right] = [(); 2].map(|()| device.alloc(batch).unwrap());
    let gradient = device.alloc(batch * classes).unwrap();
    let loss = Loss {
        logits: put(device, &by_class(&logits.broadcast_sub(&bias).unwrap())),
        bias: put(device, &flat(&bias)),
        labels: put_ints(device, &labels.map(|n| n as i32)),
        loss,
        right,
        gradient,
        smoothing: smoothing as f32,
        weight: weight as f32,
    };
    stem_head::cross_entropy(device, &loss, classes, batch).unwrap();
    let found = get(device, loss.loss).iter().sum::<f32>() / batch as f32;
    assert_close("loss", &[found], &flat(&mean), TOLERANCE);
    check(device, "logits", loss.logits, &by_class(&logits));
    check(device, "gradient", loss.gradient, &by_class(gradients.get(&logits).unwrap()));
    let rows: Vec<Vec<f32>> = logits.to_vec2().unwrap();
    let first = |row: &Vec<f32>| row.iter().position(|x| row.iter().all(|y| y <= x));
    let right = |(row, label): (_, u32)| f32::from(u8::from(first(row) == Some(label as usize)));
    let expected: Vec<f32> = rows.iter().zip(labels).map(right).collect();
    check(device, "right", loss.right, &expected);
}
