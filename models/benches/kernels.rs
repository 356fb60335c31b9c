//! Benchmarks of the CPU kernels against their reference implementations, on one thread and one image:
//! `cargo bench -p milenas-models`.
//!
//! criterion measures both; the table of ratios comes last. `-- NAME` selects kernels by a part of their names.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/cpu/reference.rs"]
mod reference;

use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::Criterion;
use milenas_models::Rng;
use milenas_models::kernels::cpu::depthwise::{self, DepthwiseShape};
use milenas_models::kernels::cpu::elementwise::{
    Affine, Dots, Gate, GateNormed, PadRelu, ReluForward, ScaledMap, WeightedSum,
};
use milenas_models::kernels::cpu::layout::transpose;
use milenas_models::kernels::cpu::norm::Scaling;
use milenas_models::kernels::cpu::pointwise::{self, PointwiseForward};
use milenas_models::kernels::cpu::strip::Strip;
use milenas_models::kernels::cpu::{Channels, LANES, Level, Pack, parity, pool};
use reference::Plain;

/// Size of an image in the middle of the search network, in pixels.
const SIDE: usize = 16;
const CHANNELS: usize = 32;

/// Runner of pairs of kernels that collects their ratios.
struct Bench {
    criterion: Criterion,
    folder: PathBuf,
    rows: Vec<String>,
}

impl Bench {
    fn new() -> Bench {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels");
        let criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(300))
            .without_plots()
            .output_directory(&folder)
            .configure_from_args();
        Bench { criterion, folder, rows: Vec::new() }
    }

    fn pair(&mut self, name: &str, mut fast: impl FnMut(), mut slow: impl FnMut()) {
        let fast = self.median(name, "fast", &mut fast);
        let slow = self.median(name, "slow", &mut slow);
        if let (Some(fast), Some(slow)) = (fast, slow) {
            let [short, long] = [fast, slow].map(|x| x / 1e3);
            self.rows.push(format!("| {name} | {short:.1} | {long:.0} | {:.0} |", slow / fast));
        }
    }

    /// Returns the median time in nanoseconds, or `None` if the arguments skip the kernel or ask for no measurement.
    fn median(&mut self, name: &str, form: &str, run: &mut dyn FnMut()) -> Option<f64> {
        let mut ran = false;
        let mut group = self.criterion.benchmark_group(name);
        group.bench_function(form, |b| {
            ran = true;
            b.iter(&mut *run);
        });
        group.finish();
        let file = self.folder.join(name).join(form).join("new/estimates.json");
        let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        ran.then(|| estimates["median"]["point_estimate"].as_f64()).flatten()
    }
}

fn noise(channels: usize, height: usize, width: usize) -> Plain {
    Plain::noise(channels, height, width, &mut Rng::new(channels as u64, "bench"))
}

fn zeros(side: usize) -> Plain {
    Plain::zeros(CHANNELS, side, side)
}

fn depthwise_kernels(bench: &mut Bench, level: Level, shape: DepthwiseShape) {
    let DepthwiseShape { kernel, dilation, stride } = shape;
    let name =
        |what: &str| format!("depthwise {kernel}x{kernel}, dilation {dilation}, stride {stride}, {what}");
    let (x, w) = (noise(CHANNELS, SIDE, SIDE), noise(CHANNELS, kernel, kernel));
    let g = noise(CHANNELS, SIDE / stride, SIDE / stride);
    let (map, source, weight, gradient) = (x.map(), x.padded(), w.blocked(), g.padded());
    let (source, weight, gradient) = (&source[..], &weight[..], &gradient[..]);
    let mut slow = g.clone();
    let mut out = vec![Pack::ZERO; map.strided(stride).len()];
    bench.pair(
        &name("forward"),
        || {
            level.run(depthwise::DepthwiseForward {
                shape,
                map,
                source,
                weight,
                rows: 0..SIDE / stride,
                last: LANES,
                out: Strip::new(&mut out, g.pixels()),
            })
        },
        || reference::depthwise(shape, &x, &w, &mut slow),
    );
    let plain = x.blocked();
    for gate in [None, Some(&plain[..])] {
        let (mut out, mut slow, mut through) = (plain.clone(), x.clone(), x.clone());
        bench.pair(
            &name(if gate.is_some() { "input gradient through the ReLU" } else { "input gradient" }),
            || {
                let (add, out) = (false, &mut out[..]);
                level.run(depthwise::InputGradient { shape, map, gradient, weight, add, gate, out })
            },
            || {
                reference::depthwise_input_gradient(shape, &g, &w, &mut slow);
                if gate.is_some() {
                    reference::gate(&slow, &x, &mut through);
                }
            },
        );
    }
    let (mut out, mut slow) = (w.blocked(), w.clone());
    bench.pair(
        &name("weight gradient"),
        || level.run(depthwise::DepthwiseWeightGradient { shape, map, source, gradient, out: &mut out }),
        || reference::depthwise_weight_gradient(shape, &x, &g, &mut slow),
    );
}

fn pointwise_kernels(bench: &mut Bench, level: Level) {
    let (x, w) = (noise(CHANNELS, SIDE, SIDE), noise(CHANNELS, 1, CHANNELS));
    let (map, source, weight) = (x.map(), x.blocked(), reference::packed(&w));
    let (channels, packs, pixels) = (Channels::one(CHANNELS), map.packs, map.pixels());
    let mut transposed = weight.clone();
    transpose(&weight, packs, packs, &mut transposed);
    let (mut out, mut slow) = (vec![Pack::ZERO; map.len()], zeros(SIDE));
    let mut sums = [vec![Pack::ZERO; packs], vec![Pack::ZERO; packs]];
    let product = |weight: &[Pack], out: &mut [Pack], sums: Option<[&mut [Pack]; 2]>| {
        level.run(PointwiseForward {
            inputs: channels,
            outputs: channels,
            rows: 1,
            width: pixels,
            source: &source,
            source_plane: pixels,
            weight,
            out,
            out_plane: pixels,
            out_step: pixels,
            sums,
        });
    };
    bench.pair(
        "pointwise, forward with sums",
        || product(&weight, &mut out, Some(sums.each_mut().map(|s| &mut s[..]))),
        || reference::pointwise(&x, &w, &mut slow),
    );
    bench.pair(
        "pointwise, input gradient",
        || product(&transposed, &mut out, None),
        || reference::pointwise_input_gradient(&x, &w, &mut slow),
    );
    let (mut out, mut slow) = (weight.clone(), w.clone());
    bench.pair(
        "pointwise, weight gradient",
        || {
            level.run(pointwise::PointwiseWeightGradient {
                inputs: channels,
                outputs: channels,
                pixels,
                source: &source,
                source_plane: pixels,
                gradient: &source,
                gradient_plane: pixels,
                out: &mut out,
            });
        },
        || reference::pointwise_weight_gradient(&x, &x, &mut slow),
    );
}

fn pool_kernels(bench: &mut Bench, level: Level, stride: usize) {
    let (x, g) = (noise(CHANNELS, SIDE, SIDE), noise(CHANNELS, SIDE / stride, SIDE / stride));
    let (map, source, gradient) = (x.map(), x.blocked(), g.blocked());
    let [mut max, mut average] = [0, 1].map(|_| gradient.clone());
    let mut sums = vec![Pack::ZERO; 4 * map.packs];
    let mut slow = [g.clone(), g.clone()];
    bench.pair(
        &format!("pools, stride {stride}, forward"),
        || {
            let (max, average, sums) = (&mut max, &mut average, &mut sums);
            level.run(pool::PoolForward { stride, map, source: &source, max, average, sums });
        },
        || reference::pools(stride, &x, &mut slow),
    );
    let mut scratch = vec![Pack::ZERO; (2 * SIDE + 1) * SIDE + 2];
    let (mut out, mut slow) = (source.clone(), x.clone());
    bench.pair(
        &format!("max pool, stride {stride}, backward"),
        || {
            let (source, max, gradient) = (&source, &max, &gradient);
            let (scratch, out) = (&mut scratch, &mut out);
            level.run(pool::MaxBackward { stride, map, source, max, gradient, scratch, out });
        },
        || reference::max_backward(stride, &x, &g, &mut slow),
    );
    bench.pair(
        &format!("average pool, stride {stride}, backward"),
        || {
            let (scratch, out) = (&mut scratch, &mut out);
            level.run(pool::AverageBackward { stride, map, gradient: &gradient, scratch, out });
        },
        || reference::average_backward(stride, &g, &mut slow),
    );
}

fn parity_kernels(bench: &mut Bench, level: Level) {
    let x = noise(CHANNELS, SIDE, SIDE);
    let (map, source) = (x.map(), x.blocked());
    let (small, half) = (map.strided(2), SIDE / 2);
    let mut out = vec![Pack::ZERO; 2 * small.len()];
    let mut slow = [zeros(half), zeros(half)];
    let halves = [0, 1].map(|_| noise(CHANNELS, half, half));
    let [even, odd] = halves.each_ref().map(Plain::blocked);
    bench.pair(
        "parity, gather",
        || {
            let out = Strip::new(&mut out, small.pixels());
            level.run(parity::ParityGather { map, source: &source, rows: 0..half, half: map.packs, out });
        },
        || reference::gather(&x, &mut slow),
    );
    let (mut out, mut slow) = (source.clone(), x.clone());
    bench.pair(
        "parity, scatter",
        || level.run(parity::ParityScatter { map, even: &even, odd: &odd, out: &mut out }),
        || reference::scatter(&halves, &mut slow),
    );
}

fn norm_kernels(bench: &mut Bench, level: Level) {
    let x = noise(CHANNELS, SIDE, SIDE);
    let (map, source) = (x.map(), x.blocked());
    let (pixels, source) = (map.pixels(), &source[..]);
    let Scaling { scale, shift } = &Scaling::identity(map.packs);
    let (ones, none) = (&[1.0; CHANNELS][..], &[0.0; CHANNELS][..]);
    let (mut out, mut slow) = (source.to_vec(), zeros(SIDE));
    bench.pair(
        "norm, in place",
        || level.run(Affine { pixels, scale, shift, map: &mut out }),
        || reference::affine(&x, [ones, none], &mut slow),
    );
    let mut padded = x.padded();
    let mut normed = zeros(SIDE);
    bench.pair(
        "norm, ReLU and pad",
        || level.run(PadRelu { map, source, scale, shift, out: &mut padded }),
        || {
            reference::affine(&x, [ones, none], &mut normed);
            reference::relu(&normed, &mut slow);
        },
    );
    let mut sums = vec![Pack::ZERO; 2 * map.packs];
    let mut slow_sums = [Plain::zeros(CHANNELS, 1, 1), Plain::zeros(CHANNELS, 1, 1)];
    bench.pair(
        "norm, back through the ReLU with sums",
        || {
            let (gradient, out, sums) = (source, &mut out, &mut sums);
            level.run(GateNormed { pixels, gradient, source, scale, shift, out, sums });
        },
        || {
            reference::affine(&x, [ones, none], &mut normed);
            reference::gate(&x, &normed, &mut slow);
            reference::sum(&slow, &mut slow_sums[0]);
            reference::dot(&slow, &x, &mut slow_sums[1]);
        },
    );
}

fn elementwise_kernels(bench: &mut Bench, level: Level) {
    let x = noise(CHANNELS, SIDE, SIDE);
    let (map, source) = (x.map(), x.blocked());
    let (pixels, source) = (map.pixels(), &source[..]);
    let (mut out, mut slow) = (source.to_vec(), zeros(SIDE));
    bench.pair(
        "ReLU",
        || level.run(ReluForward { map, source, rows: 0..SIDE, out: Strip::new(&mut out, pixels) }),
        || reference::relu(&x, &mut slow),
    );
    bench.pair(
        "gate",
        || level.run(Gate { gradient: source, source, add: false, out: &mut out }),
        || reference::gate(&x, &x, &mut slow),
    );
    let Scaling { scale, shift: bias } = &Scaling::identity(map.packs);
    let (ones, none) = ([1.0; CHANNELS], [0.0; CHANNELS]);
    let (terms, slow_terms) = ([ScaledMap { scale, map: source }; 7], [(&ones[..], &x); 7]);
    bench.pair(
        "weighted sum of 7",
        || level.run(WeightedSum { map, terms: &terms, bias, add: false, out: &mut out }),
        || reference::weighted_sum(&slow_terms, &none, &mut slow),
    );
    let (right, mut out) = ([source; 7], vec![Pack::ZERO; 8 * map.packs]);
    let mut slow = Plain::zeros(CHANNELS, 1, 1);
    bench.pair(
        "sum and 7 inner products",
        || level.run(Dots { pixels, left: source, right: &right, out: &mut out }),
        || {
            reference::sum(&x, &mut slow);
            (0..7).for_each(|_| reference::dot(&x, &x, &mut slow));
        },
    );
}

fn main() {
    let (mut bench, level) = (Bench::new(), Level::best());
    for stride in [1, 2] {
        for (kernel, dilation) in [(3, 1), (5, 1), (3, 2), (5, 2)] {
            depthwise_kernels(&mut bench, level, DepthwiseShape { kernel, dilation, stride });
        }
    }
    pointwise_kernels(&mut bench, level);
    [1, 2].into_iter().for_each(|stride| pool_kernels(&mut bench, level, stride));
    parity_kernels(&mut bench, level);
    norm_kernels(&mut bench, level);
    elementwise_kernels(&mut bench, level);
    if !bench.rows.is_empty() {
        println!("{CHANNELS} channels, {SIDE}x{SIDE} pixels, {level:?}\n");
        println!("| kernel | fast, us | slow, us | ratio |\n| --- | --- | --- | --- |");
        bench.rows.iter().for_each(|row| println!("{row}"));
    }
}
