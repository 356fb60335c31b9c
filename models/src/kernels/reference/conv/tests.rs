//! Tests of the optimised against the reference implementation, and of the reference against finite differences, for
//! the convolutions of networks and files.

use proptest::prelude::*;

use super::*;
use crate::kernels::testing::{assert_same_sums, finite_differences, tensor, value_and_gradients};

/// Asserts that the optimised implementation gives the values and gradients of the reference.
#[track_caller]
fn assert_forms_agree(conv: &Conv2d, x: &Tensor, w: &Tensor) {
    let upstream = tensor(conv2d(x, w, conv, Implementation::Reference).unwrap().dims(), 3);
    let run = |form, [x, w, upstream]: [&Tensor; 3]| {
        value_and_gradients(&[x.clone(), w.clone()], |v| conv2d(&v[0], &v[1], conv, form), upstream)
    };
    let [fast, slow] =
        [Implementation::Optimised, Implementation::Reference].map(|form| run(form, [x, w, &upstream]));
    let [x, w, upstream] = [x, w, &upstream].map(|t| t.abs().unwrap());
    assert_same_sums(&fast, &slow, &run(Implementation::Reference, [&x, &w, &upstream]), 1e-5);
}

fn weight(conv: &Conv2d) -> Tensor {
    tensor(&[conv.out_channels, conv.in_channels / conv.groups, conv.kernel[0], conv.kernel[1]], 2)
}

fn convolutions() -> impl Strategy<Value = Conv2d> {
    let sizes = (1..4usize, 1..4usize, 1..3usize, 1..3usize);
    let pads = (0..3usize, 0..3usize, 0..3usize, 0..3usize);
    (sizes, pads, 1..4usize, prop_oneof![Just((1, 1)), Just((2, 2)), Just((3, 1))], any::<(bool, bool)>())
        .prop_map(
            |(
                (rows, columns, stride, dilation),
                (top, left, bottom, right),
                groups,
                (ins, outs),
                (depthwise, even),
            )| {
                let (ins, outs) = if depthwise { (1, 1) } else { (ins, outs) };
                Conv2d {
                    in_channels: groups * ins,
                    out_channels: groups * outs,
                    kernel: [rows, columns],
                    stride: [stride, if even { stride } else { 3 - stride }],
                    padding: Padding { top, left, bottom, right },
                    dilation: [dilation; 2],
                    groups,
                    bias: false,
                }
            },
        )
}

proptest! {
    #[test]
    fn forms_agree(conv in convolutions(), n in 1..4usize, h in 5..9usize, w in 5..9usize) {
        let x = tensor(&[n, conv.in_channels, h, w], 1);
        assert_forms_agree(&conv, &x, &weight(&conv));
    }
}

#[test]
fn the_cells_convolutions_agree_at_their_sizes() {
    let depthwise = [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2), (3, 2, 2), (5, 1, 2), (5, 2, 2)];
    let depthwise = depthwise.map(|(k, s, d)| Conv2d::depthwise(6, k, s, d));
    let pointwise = [Conv2d::pointwise(6, 10), Conv2d::pointwise(6, 4).stride(2)];
    for conv in depthwise.iter().chain(&pointwise) {
        for size in [8, 7, 4, 19] {
            assert_forms_agree(conv, &tensor(&[9, 6, size, size], 1), &weight(conv));
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    let conv = Conv2d { groups: 2, ..Conv2d::new(4, 4, 3).stride(2).padding(Padding::all(1)) };
    let (x, w) = (tensor(&[2, 4, 5, 5], 1), weight(&conv));
    let y = conv2d(&x, &w, &conv, Implementation::Reference).unwrap();
    for form in [Implementation::Reference, Implementation::Optimised] {
        finite_differences(
            &[x.clone(), w.clone()],
            |v| conv2d(&v[0], &v[1], &conv, form),
            &tensor(y.dims(), 3),
            1e-2,
        );
    }
}

#[test]
fn an_input_that_needs_no_gradient_gets_none() {
    let conv = Conv2d::new(1, 1, 3);
    let x = tensor(&[1, 1, 4, 4], 1);
    let w = candle_core::Var::from_tensor(&weight(&conv)).unwrap();
    let y = conv2d(&x, w.as_tensor(), &conv, Implementation::Optimised).unwrap();
    let store = y.sum_all().unwrap().backward().unwrap();
    assert!(store.get(&x).is_none() && store.get(&w).is_some());
}
