//! Tests of ReLU, weighted sums, inner products and BatchNorm.

use milenas_models::Rng;
use milenas_models::kernels::cpu::elementwise::{
    Affine, Dots, Gate, GateNormed, PadRelu, ReluForward, ScaledMap, WeightedSum,
};
use milenas_models::kernels::cpu::norm::{EPSILON, NormCoefficient, NormMoments, Scaling};
use milenas_models::kernels::cpu::strip::Strip;
use milenas_models::kernels::cpu::{Level, Pack};
use proptest::prelude::*;

use super::{Plain, per_channel, reference};

fn channel_noise(channels: usize, rng: &mut Rng) -> Vec<f64> {
    Plain::noise(channels, 1, 1, rng).data
}

/// Returns the output of a reference implementation, with the shape of `like`.
fn made(like: &Plain, twin: impl FnOnce(&mut Plain)) -> Plain {
    let mut out = Plain::zeros(like.channels, like.height, like.width);
    twin(&mut out);
    out
}

fn per_channel_made(like: &Plain, twin: impl FnOnce(&mut Plain)) -> Plain {
    made(&Plain::zeros(like.channels, 1, 1), twin)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn pixelwise_kernels_equal_their_references(
        (channels, height, width) in (1usize..36, 1usize..12, 1usize..12),
        (terms, add) in (0usize..10, any::<bool>()),
        seed: u64,
    ) {
        let rng = &mut Rng::new(seed, "pixelwise");
        let maps: Vec<Plain> = (0..terms + 2).map(|_| Plain::noise(channels, height, width, rng)).collect();
        let scales: Vec<Vec<f64>> = (0..terms + 1).map(|_| channel_noise(channels, rng)).collect();
        let shift = channel_noise(channels, rng);
        let (x, g, map) = (&maps[0], &maps[1], maps[0].map());
        let (scale, pixels) = (per_channel(&scales[0]), map.pixels());
        let shifts = per_channel(&shift);

        let normed = made(x, |out| reference::affine(x, [&scales[0], &shift], out));
        let relu = made(x, |out| reference::relu(&normed, out));
        let gated = made(x, |out| reference::gate(g, &normed, out));
        let list: Vec<(&[f64], &Plain)> = (0..terms).map(|t| (&scales[t + 1][..], &maps[t + 2])).collect();
        let mut mixed = if add { g.clone() } else { Plain::zeros(channels, height, width) };
        reference::weighted_sum(&list, &shift, &mut mixed);
        let mut through = if add { x.clone() } else { Plain::zeros(channels, height, width) };
        reference::gate(g, x, &mut through);
        let sum = |x: &Plain| per_channel_made(x, |out| reference::sum(x, out));
        let dot = |x: &Plain, y: &Plain| per_channel_made(x, |out| reference::dot(x, y, out));

        let packed: Vec<Vec<Pack>> = maps.iter().map(Plain::blocked).collect();
        let factors: Vec<Vec<Pack>> = scales.iter().map(|s| per_channel(s)).collect();
        for level in Level::available() {
            let mut out = vec![Pack::ZERO; map.padded_len()];
            level.run(PadRelu { map, source: &packed[0], scale: &scale, shift: &shifts, out: &mut out });
            prop_assert!(out == padded_of(&relu, &out), "pad and ReLU, {level:?}");

            let mut out = packed[0].clone();
            level.run(Affine { pixels, scale: &scale, shift: &shifts, map: &mut out });
            normed.assert_equals("affine", level, &out);
            let mut again = out.clone();
            level.run(ReluForward { map, source: &out, rows: 0..height, out: Strip::new(&mut again, pixels) });
            relu.assert_equals("ReLU", level, &again);

            let (mut out, mut found) = (packed[0].clone(), vec![Pack::ZERO; 2 * map.packs]);
            level.run(GateNormed {
                pixels, gradient: &packed[1], source: &packed[0], scale: &scale, shift: &shifts,
                out: &mut out, sums: &mut found,
            });
            gated.assert_equals("gate behind a norm", level, &out);
            sum(&gated).assert_equals("its sum", level, &found[..map.packs]);
            dot(&gated, x).assert_equals("its product", level, &found[map.packs..]);

            let mut out = packed[0].clone();
            level.run(Gate { gradient: &packed[1], source: &packed[0], add, out: &mut out });
            through.assert_equals("gate", level, &out);

            let mut out = packed[1].clone();
            let list: Vec<ScaledMap<'_>> =
                (0..terms).map(|t| ScaledMap { scale: &factors[t + 1], map: &packed[t + 2] }).collect();
            level.run(WeightedSum { map, terms: &list, bias: &shifts, add, out: &mut out });
            mixed.assert_equals("weighted sum", level, &out);

            let right: Vec<&[Pack]> = packed.iter().map(|p| &p[..]).collect();
            let mut out = vec![Pack::ZERO; (1 + right.len()) * map.packs];
            level.run(Dots { pixels, left: &packed[0], right: &right, out: &mut out });
            sum(x).assert_equals("sum", level, &out[..map.packs]);
            for (other, found) in maps.iter().zip(out[map.packs..].chunks_exact(map.packs)) {
                dot(x, other).assert_equals("dot", level, found);
            }
        }
    }
}

/// Returns `plain` padded, with the rounding of `found` where both agree within tolerance.
fn padded_of(plain: &Plain, found: &[Pack]) -> Vec<Pack> {
    let mut out = plain.padded();
    for (out, found) in out.iter_mut().zip(found) {
        for (out, found) in out.0.iter_mut().zip(found.0) {
            if *out != 0.0 && (*out - found).abs() < super::TOLERANCE as f32 {
                *out = found;
            }
        }
    }
    out
}

/// Returns the loss of one channel: the sum of `g * (weight * normalised y)`.
fn loss(y: &[f64], g: &[f64], weight: f64) -> f64 {
    let n = y.len() as f64;
    let mean = y.iter().sum::<f64>() / n;
    let variance = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / n;
    y.iter().zip(g).map(|(y, g)| weight * g * (y - mean) / (variance + EPSILON).sqrt()).sum()
}

#[test]
fn norm_gradient_equals_finite_differences() {
    let rng = &mut Rng::new(5, "norm");
    let draw = |rng: &mut Rng| -> Vec<f64> { (0..30).map(|_| f64::from(rng.normal())).collect() };
    let (y, g, weight) = (draw(rng), draw(rng), 0.7);
    let sum = |f: &dyn Fn(usize) -> f64| vec![(0..y.len()).map(f).sum::<f64>()];
    let moments = NormMoments::of(sum(&|i| y[i]), sum(&|i| y[i] * y[i]), 30.0);
    let mut scaling = Scaling::identity(1);
    scaling.normalise(&moments);
    let (slope, total) = NormCoefficient::of(&scaling, weight, &sum(&|i| g[i]), &sum(&|i| g[i] * y[i]), 30.0);
    let step = 1e-6;
    assert!((total - loss(&y, &g, 1.0)).abs() < 1e-5, "gradient of the weight");
    for i in 0..y.len() {
        let at = |d: f64| {
            let mut y = y.clone();
            y[i] += d;
            loss(&y, &g, weight)
        };
        let expected = (at(step) - at(-step)) / (2.0 * step);
        let [a, b, c] = [&slope.a, &slope.b, &slope.c].map(|x| f64::from(x[0].0[0]));
        let found = a * g[i] + b * y[i] + c;
        assert!((found - expected).abs() < 1e-4, "element {i}: {found}, expected {expected}");
    }
}
