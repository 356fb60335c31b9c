//! Reference implementations of the CPU kernels: plain loops over feature maps `[C, H, W]` in double precision. Each
//! adds to its output.
//!
//! The tests compare the kernels with them; `benches/kernels.rs` measures the speedup.

use milenas_models::Rng;
use milenas_models::kernels::cpu::depthwise::DepthwiseShape;
use milenas_models::kernels::cpu::layout::block;
use milenas_models::kernels::cpu::{Channels, HALO, LANES, MapSize, Pack};

/// A feature map `[C, H, W]`.
#[derive(Clone, Debug)]
pub struct Plain {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub data: Vec<f64>,
}

impl Plain {
    pub fn zeros(channels: usize, height: usize, width: usize) -> Plain {
        Plain { channels, height, width, data: vec![0.0; channels * height * width] }
    }

    pub fn noise(channels: usize, height: usize, width: usize, rng: &mut Rng) -> Plain {
        let mut out = Plain::zeros(channels, height, width);
        out.data.iter_mut().for_each(|x| *x = f64::from(rng.uniform(-1.0, 1.0)));
        out
    }

    /// Returns an element, or 0 outside of the feature map.
    pub fn at(&self, c: usize, y: isize, x: isize) -> f64 {
        self.index(c, y, x).map_or(0.0, |i| self.data[i])
    }

    fn index(&self, c: usize, y: isize, x: isize) -> Option<usize> {
        let inside = (0..self.height as isize).contains(&y) && (0..self.width as isize).contains(&x);
        inside.then(|| (c * self.height + y as usize) * self.width + x as usize)
    }

    pub fn add(&mut self, c: usize, y: isize, x: isize, value: f64) {
        if let Some(i) = self.index(c, y, x) {
            self.data[i] += value;
        }
    }

    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    pub fn map(&self) -> MapSize {
        MapSize { packs: Channels::one(self.channels).packs(), height: self.height, width: self.width }
    }

    pub fn blocked(&self) -> Vec<Pack> {
        let floats: Vec<f32> = self.data.iter().map(|x| *x as f32).collect();
        block(&floats, Channels::one(self.channels), self.pixels())
    }

    pub fn padded(&self) -> Vec<Pack> {
        let map = self.map();
        let mut out = vec![Pack::ZERO; map.padded_len()];
        for (to, from) in out.chunks_exact_mut(map.padded_width()).zip(self.blocked().chunks_exact(map.width))
        {
            to[HALO..][..map.width].copy_from_slice(from);
        }
        out
    }
}

/// Converts a pointwise weight `[O, 1, I]` to the kernels' layout, `[out block][in lane]`.
pub fn packed(weight: &Plain) -> Vec<Pack> {
    let [inputs, outputs] = [weight.width, weight.channels].map(|c| Channels::one(c).packs());
    let mut out = vec![Pack::ZERO; outputs * inputs * LANES];
    for (to, from) in out.chunks_exact_mut(inputs * LANES).zip(weight.blocked().chunks_exact(weight.width)) {
        to[..weight.width].copy_from_slice(from);
    }
    out
}

/// Visits every (channel, output row and column, tap, input row and column).
fn each_tap(
    shape: DepthwiseShape,
    input: &Plain,
    mut visit: impl FnMut(usize, [isize; 2], usize, [isize; 2]),
) {
    let DepthwiseShape { kernel, dilation, stride } = shape;
    let reach = ((kernel - 1) * dilation / 2) as isize;
    for c in 0..input.channels {
        for y in 0..input.height.div_ceil(stride) {
            for x in 0..input.width.div_ceil(stride) {
                for tap in 0..kernel * kernel {
                    let along = |at: usize, tap: usize| (at * stride + tap * dilation) as isize - reach;
                    let from = [along(y, tap / kernel), along(x, tap % kernel)];
                    visit(c, [y as isize, x as isize], tap, from);
                }
            }
        }
    }
}

/// Depthwise convolution with `weight` `[C, K, K]`.
pub fn depthwise(shape: DepthwiseShape, input: &Plain, weight: &Plain, out: &mut Plain) {
    each_tap(shape, input, |c, to, tap, from| {
        out.add(c, to[0], to[1], weight.data[c * shape.taps() + tap] * input.at(c, from[0], from[1]));
    });
}

pub fn depthwise_input_gradient(shape: DepthwiseShape, gradient: &Plain, weight: &Plain, out: &mut Plain) {
    each_tap(shape, &Plain { data: Vec::new(), ..*out }, |c, to, tap, from| {
        out.add(c, from[0], from[1], weight.data[c * shape.taps() + tap] * gradient.at(c, to[0], to[1]));
    });
}

pub fn depthwise_weight_gradient(shape: DepthwiseShape, input: &Plain, gradient: &Plain, out: &mut Plain) {
    each_tap(shape, input, |c, to, tap, from| {
        out.data[c * shape.taps() + tap] += input.at(c, from[0], from[1]) * gradient.at(c, to[0], to[1]);
    });
}

/// Visits every (output channel, input channel, pixel) of a weight `[O, 1, I]`, as the indices in weight, input and
/// output.
fn each_product(weight: &Plain, pixels: usize, mut visit: impl FnMut(usize, usize, usize)) {
    for o in 0..weight.channels {
        for i in 0..weight.width {
            for p in 0..pixels {
                visit(o * weight.width + i, i * pixels + p, o * pixels + p);
            }
        }
    }
}

/// Pointwise convolution with `weight` `[O, 1, I]`.
pub fn pointwise(input: &Plain, weight: &Plain, out: &mut Plain) {
    each_product(weight, input.pixels(), |w, i, o| out.data[o] += weight.data[w] * input.data[i]);
}

pub fn pointwise_input_gradient(gradient: &Plain, weight: &Plain, out: &mut Plain) {
    each_product(weight, gradient.pixels(), |w, i, o| out.data[i] += weight.data[w] * gradient.data[o]);
}

pub fn pointwise_weight_gradient(input: &Plain, gradient: &Plain, out: &mut Plain) {
    let like = Plain { data: Vec::new(), ..*out };
    each_product(&like, input.pixels(), |w, i, o| out.data[w] += input.data[i] * gradient.data[o]);
}

/// Visits every window: channel, output row and column, and the pixels inside the image in row-major order.
fn each_window(input: &Plain, stride: usize, mut visit: impl FnMut(usize, [isize; 2], &[[isize; 2]])) {
    for c in 0..input.channels {
        for y in 0..input.height.div_ceil(stride) as isize {
            for x in 0..input.width.div_ceil(stride) as isize {
                let (my, mx) = (y * stride as isize, x * stride as isize);
                let window: Vec<[isize; 2]> = (my - 1..=my + 1)
                    .flat_map(|y| (mx - 1..=mx + 1).map(move |x| [y, x]))
                    .filter(|[y, x]| input.index(c, *y, *x).is_some())
                    .collect();
                visit(c, [y, x], &window);
            }
        }
    }
}

fn largest(input: &Plain, c: usize, window: &[[isize; 2]]) -> f64 {
    window.iter().map(|p| input.at(c, p[0], p[1])).fold(f64::NEG_INFINITY, f64::max)
}

/// Max and average pooling.
pub fn pools(stride: usize, input: &Plain, [max, average]: &mut [Plain; 2]) {
    each_window(input, stride, |c, [y, x], window| {
        max.add(c, y, x, largest(input, c, window));
        let sum: f64 = window.iter().map(|p| input.at(c, p[0], p[1])).sum();
        average.add(c, y, x, sum / window.len() as f64);
    });
}

/// Gradient of max pooling, to the first maximum in row-major order.
pub fn max_backward(stride: usize, input: &Plain, gradient: &Plain, out: &mut Plain) {
    each_window(input, stride, |c, [y, x], window| {
        let max = largest(input, c, window);
        let first = window.iter().find(|p| input.at(c, p[0], p[1]) == max);
        first.into_iter().for_each(|p| out.add(c, p[0], p[1], gradient.at(c, y, x)));
    });
}

pub fn average_backward(stride: usize, gradient: &Plain, out: &mut Plain) {
    each_window(&out.clone(), stride, |c, [y, x], window| {
        window.iter().for_each(|p| out.add(c, p[0], p[1], gradient.at(c, y, x) / window.len() as f64));
    });
}

/// Visits every pixel of the two halves of a strided skip: the half, the channel, its row and column, and those of
/// the input.
fn each_half(input: &Plain, mut visit: impl FnMut(usize, usize, [isize; 2], [isize; 2])) {
    for c in 0..input.channels {
        for y in 0..input.height.div_ceil(2) as isize {
            for x in 0..input.width.div_ceil(2) as isize {
                for half in 0..2 {
                    visit(half, c, [y, x], [2 * y + half as isize, 2 * x + half as isize]);
                }
            }
        }
    }
}

/// Even and odd pixels after ReLU.
pub fn gather(input: &Plain, halves: &mut [Plain; 2]) {
    each_half(input, |half, c, [y, x], [py, px]| halves[half].add(c, y, x, input.at(c, py, px).max(0.0)));
}

pub fn scatter(gradients: &[Plain; 2], out: &mut Plain) {
    each_half(&out.clone(), |half, c, [y, x], [py, px]| out.add(c, py, px, gradients[half].at(c, y, x)));
}

/// Adds `f(c, i)` to element `i`, of channel `c`.
fn add_each(out: &mut Plain, f: impl Fn(usize, usize) -> f64) {
    let pixels = out.pixels();
    out.data.iter_mut().enumerate().for_each(|(i, x)| *x += f(i / pixels, i));
}

/// `scale * x + shift` per channel.
pub fn affine(x: &Plain, [scale, shift]: [&[f64]; 2], out: &mut Plain) {
    add_each(out, |c, i| scale[c] * x.data[i] + shift[c]);
}

pub fn relu(x: &Plain, out: &mut Plain) {
    add_each(out, |_, i| x.data[i].max(0.0));
}

/// `gradient` where `source > 0`.
pub fn gate(gradient: &Plain, source: &Plain, out: &mut Plain) {
    add_each(out, |_, i| if source.data[i] > 0.0 { gradient.data[i] } else { 0.0 });
}

/// `bias + sum of scale * map` per channel.
pub fn weighted_sum(terms: &[(&[f64], &Plain)], bias: &[f64], out: &mut Plain) {
    add_each(out, |c, i| bias[c] + terms.iter().map(|(scale, map)| scale[c] * map.data[i]).sum::<f64>());
}

/// Sums over pixels, `[C, 1, 1]`.
pub fn sum(x: &Plain, out: &mut Plain) {
    add_each(out, |c, _| x.data[c * x.pixels()..][..x.pixels()].iter().sum());
}

/// Sums of products over pixels, `[C, 1, 1]`.
pub fn dot(x: &Plain, y: &Plain, out: &mut Plain) {
    let pixels = x.pixels();
    let pairs = |c: usize| x.data[c * pixels..][..pixels].iter().zip(&y.data[c * pixels..][..pixels]);
    add_each(out, |c, _| pairs(c).map(|(x, y)| x * y).sum());
}
