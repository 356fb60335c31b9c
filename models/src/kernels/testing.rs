//! Helpers of the kernel tests: random tensors, values with gradients, finite differences.

use candle_core::{Device, Result, Tensor, Var};

use crate::Rng;

/// Returns a tensor of standard normal values.
pub(crate) fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Rng::new(seed, "kernel test");
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Returns the value of `f`, and the gradient of `sum f * upstream` with respect to each input.
pub(crate) fn value_and_gradients(
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    upstream: &Tensor,
) -> Vec<Vec<f32>> {
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors).unwrap();
    let gradients = (&y * upstream).unwrap().sum_all().unwrap().backward().unwrap();
    let of = |v: &Var| gradients.get(v).map_or_else(|| vec![0.0; v.elem_count()], flat);
    std::iter::once(flat(&y)).chain(vars.iter().map(of)).collect()
}

/// Asserts that each pair of lists differs by at most `tolerance` times the largest element.
#[track_caller]
pub(crate) fn assert_same(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!(a.len(), b.len());
        let scale = b.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
        let worst = a.iter().zip(b).fold(0.0f32, |m, (x, y)| m.max((x - y).abs()));
        assert!(worst <= tolerance * scale, "list {at}: {worst} of {scale}\n{a:?}\n{b:?}");
    }
}

/// Asserts that each value differs by at most `tolerance` times the sum of the absolute values of its terms. Terms
/// that cancel leave a small result with the rounding error of large terms.
#[track_caller]
pub(crate) fn assert_same_sums(
    found: &[Vec<f32>],
    expected: &[Vec<f32>],
    without_signs: &[Vec<f32>],
    tolerance: f32,
) {
    assert_eq!([found.len(), expected.len()], [without_signs.len(); 2]);
    for (at, ((a, b), scales)) in found.iter().zip(expected).zip(without_signs).enumerate() {
        assert_eq!([a.len(), b.len()], [scales.len(); 2]);
        for (i, ((a, b), scale)) in a.iter().zip(b).zip(scales).enumerate() {
            assert!(
                (a - b).abs() <= tolerance * scale,
                "list {at}, {i}: {a}, expected {b}, of terms of {scale}"
            );
        }
    }
}

/// Asserts that the gradients of `f` equal finite differences, to `tolerance` times the largest.
#[track_caller]
pub(crate) fn finite_differences(
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    upstream: &Tensor,
    tolerance: f32,
) {
    const STEP: f32 = 1e-2;
    let found = &value_and_gradients(inputs, &f, upstream)[1..];
    let value = |inputs: &[Tensor]| -> f64 {
        let y = f(inputs).unwrap();
        flat(&y).iter().zip(flat(upstream)).map(|(y, u)| f64::from(*y) * f64::from(u)).sum()
    };
    let slope = |which: usize, at: usize| {
        let moved = |by: f32| {
            let mut inputs = inputs.to_vec();
            let mut data = flat(&inputs[which]);
            data[at] += by;
            inputs[which] = Tensor::from_vec(data, inputs[which].shape(), &Device::Cpu).unwrap();
            value(&inputs)
        };
        ((moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP)) as f32
    };
    let slopes: Vec<Vec<f32>> = inputs
        .iter()
        .enumerate()
        .map(|(i, t)| (0..t.elem_count()).map(|at| slope(i, at)).collect())
        .collect();
    assert_same(found, &slopes, tolerance);
}
