//! Conversions between candle's tensors `[N, C, H, W]` and a device's feature maps `[C][N][H][W]`.

use candle_core::{Device as Place, Tensor, Var};
use milenas_models::Rng;
use milenas_models::kernels::cuda::{Device, Words};

pub use crate::numbers::{GRADIENTS, VALUES, assert_close, flat};

/// Tolerance relative to the largest element, for other orders of summation.
pub const TOLERANCE: f32 = 2e-5;

/// Returns standard normal values. If `coarse`, they are rounded to halves, so that some are equal and some are zero.
pub fn tensor(shape: &[usize], seed: u64, coarse: bool) -> Tensor {
    let mut rng = Rng::new(seed, "cuda test");
    let one = |x: f32| if coarse { (2.0 * x).round() / 2.0 } else { x };
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| one(rng.normal())).collect();
    Tensor::from_vec(data, shape, &Place::Cpu).unwrap()
}

/// Returns a variable whose gradient is computed.
pub fn leaf(tensor: Tensor) -> Var {
    Var::from_tensor(&tensor).unwrap()
}

/// Returns a tensor `[N, C, H, W]` in the layout `[C][N][H][W]`.
pub fn map(tensor: &Tensor) -> Vec<f32> {
    flat(&tensor.transpose(0, 1).unwrap().contiguous().unwrap())
}

/// Returns the sum of `f * upstream` over all pairs.
pub fn weighed(pairs: &[(Tensor, Tensor)]) -> Tensor {
    let sums = pairs.iter().map(|(y, upstream)| (y * upstream).unwrap().sum_all().unwrap());
    sums.reduce(|a, b| (a + b).unwrap()).unwrap()
}

pub fn put(device: &mut dyn Device, values: &[f32]) -> Words {
    let words = device.alloc(values.len()).unwrap();
    device.write(words, values).unwrap();
    words
}

pub fn put_ints(device: &mut dyn Device, values: &[i32]) -> Words {
    let words = device.alloc(values.len()).unwrap();
    device.write_ints(words, values).unwrap();
    words
}

pub fn zeros(device: &mut dyn Device, len: usize) -> Words {
    put(device, &vec![0.0; len])
}

pub fn get(device: &mut dyn Device, words: Words) -> Vec<f32> {
    let mut values = vec![0.0; words.len()];
    device.read(words, &mut values).unwrap();
    values
}

#[track_caller]
pub fn check(device: &mut dyn Device, name: &str, words: Words, expected: &[f32]) {
    assert_close(name, &get(device, words), expected, TOLERANCE);
}
