//! Tests of depthwise and pointwise convolutions, and of their gradients.

use milenas_models::Rng;
use milenas_models::kernels::cpu::depthwise::{self, DepthwiseShape};
use milenas_models::kernels::cpu::layout::transpose;
use milenas_models::kernels::cpu::pointwise::{self, PointwiseForward};
use milenas_models::kernels::cpu::strip::Strip;
use milenas_models::kernels::cpu::{Channels, LANES, Level, MapSize, Pack};
use proptest::prelude::*;

use super::{Plain, assert_close, reference};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn depthwise_equals_its_reference(
        (wide, dilation, stride) in (any::<bool>(), 1usize..3, 1usize..3),
        (channels, height, width) in (1usize..36, 1usize..14, 1usize..20),
        add: bool,
        seed: u64,
    ) {
        let shape = DepthwiseShape { kernel: if wide { 5 } else { 3 }, dilation, stride };
        let rng = &mut Rng::new(seed, "depthwise");
        let input = Plain::noise(channels, height, width, rng);
        let weight = Plain::noise(channels, shape.kernel, shape.kernel, rng);
        let gradient = Plain::noise(channels, height.div_ceil(stride), width.div_ceil(stride), rng);
        let before = Plain::noise(channels, height, width, rng);

        let mut out = Plain::zeros(channels, gradient.height, gradient.width);
        let mut input_gradient = if add { before.clone() } else { Plain::zeros(channels, height, width) };
        let mut weight_gradient = Plain::noise(channels, shape.kernel, shape.kernel, rng);
        let start = weight_gradient.blocked();
        reference::depthwise(shape, &input, &weight, &mut out);
        reference::depthwise_input_gradient(shape, &gradient, &weight, &mut input_gradient);
        reference::depthwise_weight_gradient(shape, &input, &gradient, &mut weight_gradient);

        let mut plain = Plain::zeros(channels, height, width);
        reference::depthwise_input_gradient(shape, &gradient, &weight, &mut plain);
        let mut through = if add { before.clone() } else { Plain::zeros(channels, height, width) };
        reference::gate(&plain, &input, &mut through);

        let (map, source, weights) = (input.map(), input.padded(), weight.blocked());
        for level in Level::available() {
            // Compute the output in two strips.
            let cut = out.height / 2;
            let mut found = vec![Pack::ZERO; map.strided(stride).len()];
            for rows in [0..cut, cut..out.height] {
                let mut strip = vec![Pack::ZERO; map.packs * rows.len() * out.width];
                level.run(depthwise::DepthwiseForward {
                    shape, map, source: &source, weight: &weights, rows: rows.clone(), last: LANES,
                    out: Strip::new(&mut strip, rows.len() * out.width),
                });
                for (block, strip) in strip.chunks_exact((rows.len() * out.width).max(1)).enumerate() {
                    let first = (block * out.height + rows.start) * out.width;
                    found[first..][..strip.len()].copy_from_slice(strip);
                }
            }
            out.assert_equals("forward", level, &found);

            let mut found = before.blocked();
            level.run(depthwise::InputGradient {
                shape, map, gradient: &gradient.padded(), weight: &weights, add, gate: None, out: &mut found,
            });
            input_gradient.assert_equals("input gradient", level, &found);

            let (mut found, gate) = (before.blocked(), input.blocked());
            level.run(depthwise::InputGradient {
                shape, map, gradient: &gradient.padded(), weight: &weights, add, gate: Some(&gate), out: &mut found,
            });
            through.assert_equals("input gradient through a ReLU", level, &found);

            let mut found = start.clone();
            level.run(depthwise::DepthwiseWeightGradient {
                shape, map, source: &source, gradient: &gradient.padded(), out: &mut found,
            });
            weight_gradient.assert_equals("weight gradient", level, &found);
        }
    }

    #[test]
    fn pointwise_equals_its_reference(
        (inputs, outputs) in (1usize..50, 1usize..50),
        (height, width) in (1usize..6, 1usize..24),
        seed: u64,
    ) {
        let rng = &mut Rng::new(seed, "pointwise");
        let input = Plain::noise(inputs, height, width, rng);
        let gradient = Plain::noise(outputs, height, width, rng);
        let weight = Plain::noise(outputs, 1, inputs, rng);
        let (pixels, channels) = (height * width, [inputs, outputs].map(Channels::one));
        let packs = channels.map(Channels::packs);
        let packed = reference::packed(&weight);
        let mut transposed = vec![Pack::ZERO; packed.len()];
        transpose(&packed, packs[0], packs[1], &mut transposed);

        let mut out = Plain::zeros(outputs, height, width);
        let mut input_gradient = Plain::zeros(inputs, height, width);
        let mut weight_gradient = weight.clone();
        reference::pointwise(&input, &weight, &mut out);
        reference::pointwise_input_gradient(&gradient, &weight, &mut input_gradient);
        reference::pointwise_weight_gradient(&input, &gradient, &mut weight_gradient);
        let sums = |power: i32| -> Vec<f64> {
            out.data.chunks_exact(pixels).map(|plane| plane.iter().map(|x| x.powi(power)).sum()).collect()
        };

        for level in Level::available() {
            let mut found = vec![Pack::ZERO; packs[1] * pixels];
            let mut found_sums = [vec![Pack::ZERO; packs[1]], vec![Pack::ZERO; packs[1]]];
            level.run(PointwiseForward {
                inputs: channels[0], outputs: channels[1], rows: 1, width: pixels,
                source: &input.blocked(), source_plane: pixels, weight: &packed,
                out: &mut found, out_plane: pixels, out_step: pixels,
                sums: Some(found_sums.each_mut().map(|s| &mut s[..])),
            });
            out.assert_equals("forward", level, &found);
            for (power, found) in found_sums.iter().enumerate() {
                let plain = Plain { channels: outputs, height: 1, width: 1, data: sums(power as i32 + 1) };
                plain.assert_equals("sums", level, found);
            }

            // The output is the interior of a feature map with rows three packs longer.
            let step = width + 3;
            let mut found = vec![Pack::ZERO; packs[0] * height * step];
            level.run(PointwiseForward {
                inputs: channels[1], outputs: channels[0], rows: height, width,
                source: &gradient.blocked(), source_plane: pixels, weight: &transposed,
                out: &mut found, out_plane: height * step, out_step: step, sums: None,
            });
            let found: Vec<Pack> = found.chunks_exact(step).flat_map(|row| row[..width].to_vec()).collect();
            input_gradient.assert_equals("input gradient", level, &found);

            let mut found = packed.clone();
            level.run(pointwise::PointwiseWeightGradient {
                inputs: channels[0], outputs: channels[1], pixels,
                source: &input.blocked(), source_plane: pixels,
                gradient: &gradient.blocked(), gradient_plane: pixels, out: &mut found,
            });
            let expected = reference::packed(&weight_gradient);
            let expected: Vec<f64> = expected.iter().flat_map(|p| p.0).map(f64::from).collect();
            let found: Vec<f32> = found.iter().flat_map(|p| p.0).collect();
            assert_close(&format!("weight gradient, {level:?}"), &found, &expected);
        }
    }
}

/// The wide instruction sets round in the same way, so their results are bit-identical.
#[test]
fn wide_levels_agree_to_the_bit() {
    let shape = DepthwiseShape { kernel: 5, dilation: 1, stride: 1 };
    let rng = &mut Rng::new(1, "levels");
    let (input, weight) = (Plain::noise(48, 9, 11, rng), Plain::noise(48, 5, 5, rng));
    let map: MapSize = input.map();
    let wide: Vec<Level> = Level::available().into_iter().filter(|l| *l != Level::PORTABLE).collect();
    let results = wide.iter().map(|level| {
        let mut out = vec![Pack::ZERO; map.len()];
        let mut sums = vec![Pack::ZERO; 3 * 25];
        let (source, weight) = (input.padded(), weight.blocked());
        level.run(depthwise::DepthwiseForward {
            shape,
            map,
            source: &source,
            weight: &weight,
            rows: 0..9,
            last: LANES,
            out: Strip::new(&mut out, map.pixels()),
        });
        level.run(depthwise::DepthwiseWeightGradient {
            shape,
            map,
            source: &source,
            gradient: &source,
            out: &mut sums,
        });
        (out, sums)
    });
    let results: Vec<_> = results.collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}
