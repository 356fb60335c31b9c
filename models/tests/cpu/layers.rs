//! Tests of the fused convolutions of evaluation in float32 and bfloat16, with all initial values and destinations.

use milenas_models::Rng;
use milenas_models::kernels::cpu::bf16::{self, Round, pair_weight};
use milenas_models::kernels::cpu::layer::{Accumulator, Layer};
use milenas_models::kernels::cpu::layout::block;
use milenas_models::kernels::cpu::strip::run;
use milenas_models::kernels::cpu::tile::Operands;
use milenas_models::kernels::cpu::{Channels, HALO, LANES, Level, Pack};
use proptest::prelude::*;

use super::strips::paired;
use super::{Plain, assert_close, per_channel, reference};

/// Rounds to the nearest value with eight bits, ties to even: bfloat16.
fn to_bfloat16(x: &Plain) -> Plain {
    let round = |x: &f64| {
        let unit = if *x == 0.0 { 1.0 } else { 2f64.powi(x.abs().log2().floor() as i32 - 7) };
        (x / unit).round_ties_even() * unit
    };
    // The kernels get the value as f32.
    Plain { data: x.data.iter().map(|x| round(&f64::from(*x as f32))).collect(), ..*x }
}

/// Arguments of a layer, and the expected results before ReLU.
struct Case {
    /// Channels of the concatenated inputs.
    inputs: Channels,
    input: Plain,
    weight: Plain,
    bias: Vec<f64>,
    start: Plain,
    expected: Plain,
}

impl Case {
    /// Returns a random case, with operands rounded to bfloat16 if `rounded`.
    fn new(inputs: Channels, [outputs, height, width]: [usize; 3], rounded: bool, seed: u64) -> Case {
        let (rng, count) = (&mut Rng::new(seed, "layer"), inputs.count());
        let (input, weight) = (Plain::noise(count, height, width, rng), Plain::noise(outputs, 1, count, rng));
        let (bias, start) =
            (Plain::noise(outputs, 1, 1, rng).data, Plain::noise(outputs, height, width, rng));
        let mut expected = start.clone();
        let pixels = expected.pixels();
        expected.data.iter_mut().enumerate().for_each(|(i, x)| *x += bias[i / pixels]);
        match rounded {
            true => reference::pointwise(&to_bfloat16(&input), &to_bfloat16(&weight), &mut expected),
            false => reference::pointwise(&input, &weight, &mut expected),
        }
        Case { inputs, input, weight, bias, start, expected }
    }

    /// Returns input and weight as packs, with zeros in the unused lanes.
    fn factors(&self) -> [Vec<Pack>; 2] {
        let floats: Vec<f32> = self.input.data.iter().map(|x| *x as f32).collect();
        let mut weight = Plain::zeros(self.weight.channels, 1, self.inputs.packs() * LANES);
        for (to, from) in
            weight.data.chunks_exact_mut(weight.width).zip(self.weight.data.chunks_exact(self.weight.width))
        {
            from.iter().enumerate().for_each(|(c, x)| to[self.inputs.lane(c)] = *x);
        }
        [block(&floats, self.inputs, self.input.pixels()), reference::packed(&weight)]
    }

    /// Runs some rows at a time on these operands, once starting from a feature map and once from the values in the
    /// destination.
    fn check(&self, name: &str, source: &[Pack], weight: &[Pack], level: Level, pairs: bool) {
        let Plain { channels, height, width, .. } = self.expected;
        let (map, outputs) = (self.expected.map(), Channels::one(channels));
        let (bias, start) = (per_channel(&self.bias), self.start.blocked());
        let (plane, step) = (height * width, map.padded_width());
        for from_map in [true, false] {
            let mut plain = if from_map { vec![Pack::ONE; map.len()] } else { start.clone() };
            let mut padded = vec![Pack::ZERO; map.padded_len()];
            let mut factors = vec![Pack::ZERO; outputs.shared(1 + usize::from(pairs)) * plane];
            let cut = height / 2;
            for rows in [0..cut, cut..height] {
                let first = rows.start * width;
                let mut blocks: Vec<&mut [Pack]> = plain.chunks_exact_mut(plane).collect();
                let mut wide: Vec<&mut [Pack]> = padded.chunks_exact_mut(height * step).collect();
                let mut columns: Vec<&mut [Pack]> = factors.chunks_exact_mut(plane).collect();
                let layer = Layer {
                    operands: Operands {
                        inputs: self.inputs,
                        source: source.get(first..).unwrap_or_default(),
                        plane,
                        weight,
                    },
                    outputs,
                    bias: &bias,
                    pixels: rows.len() * width,
                    width,
                    start: if from_map {
                        Accumulator::Map(&start[first..], plane)
                    } else {
                        Accumulator::Plain
                    },
                    plain: Some(&mut blocks),
                    padded: Some(&mut wide),
                    factors: Some(&mut columns),
                    skip: rows.start,
                };
                run(level, pairs, layer);
            }
            self.expected.assert_equals(name, level, &plain);
            let mut rectified = self.expected.clone();
            rectified.data.iter_mut().for_each(|x| *x = x.max(0.0));
            let inside: Vec<Pack> =
                padded.chunks_exact(step).flat_map(|row| row[HALO..][..width].to_vec()).collect();
            rectified.assert_equals(name, level, &inside);
            let rectified: Vec<Pack> = plain.iter().map(|pack| Pack(pack.0.map(|x| x.max(0.0)))).collect();
            let columns = if pairs { paired(&rectified, plane, outputs.packs()) } else { rectified };
            assert_eq!(factors, columns, "{name}, {level:?}: factors");
            let borders =
                |row: &[Pack]| row[..HALO].iter().chain(&row[HALO + width..]).all(|p| *p == Pack::ZERO);
            assert!(padded.chunks_exact(step).all(borders), "{name}, {level:?}: a border was written to");
            let filling = |pack: &Pack| pack.0[(channels - 1) % 16 + 1..].iter().all(|x| *x == 0.0);
            assert!(plain[plain.len() - plane..].iter().all(filling), "{name}, {level:?}: filling lanes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn layer_equals_its_reference(
        (groups, each, outputs) in (1usize..4, 1usize..70, 1usize..150),
        (height, width) in (1usize..6, 1usize..20),
        seed: u64,
    ) {
        let case = Case::new(Channels { groups, each }, [outputs, height, width], false, seed);
        let [source, weight] = case.factors();
        Level::available().into_iter().for_each(|l| case.check("float32", &source, &weight, l, false));
    }

    /// Tests pairs on processors that multiply them, and rounded values on all.
    #[test]
    fn bf16_layer_equals_its_reference(
        (groups, each, outputs) in (1usize..4, 1usize..70, 1usize..150),
        (height, width) in (1usize..6, 1usize..20),
        seed: u64,
    ) {
        let case = Case::new(Channels { groups, each }, [outputs, height, width], true, seed);
        let ([source, weight], plane) = (case.factors(), height * width);
        for level in Level::available() {
            let (mut rounded, mut rounded_weight) = (source.clone(), weight.clone());
            level.run(Round(&mut rounded));
            level.run(Round(&mut rounded_weight));
            case.check("rounded", &rounded, &rounded_weight, level, false);
            if level.has_pairs() {
                let pairs = paired(&source, plane, each.div_ceil(LANES));
                case.check("pairs", &pairs, &pair_weight(&weight, case.inputs), level, true);
            }
        }
    }
}

#[test]
fn rounding_is_to_the_nearest_and_ties_go_to_even() {
    let step = 2f32.powi(-7);
    for (x, expected) in [
        (1.0, 1.0),
        (1.0 + 0.4 * step, 1.0),
        (1.0 + 0.6 * step, 1.0 + step),
        (1.0 + 0.5 * step, 1.0),
        (1.0 + 1.5 * step, 1.0 + 2.0 * step),
        (-1.0 - 1.5 * step, -1.0 - 2.0 * step),
        (0.0, 0.0),
        (f32::MAX, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
    ] {
        assert_eq!(bf16::round(x), expected, "{x}");
    }
    assert!(bf16::round(f32::from_bits(0x7fff_ffff)).is_nan());
    let noise = Plain::noise(16, 8, 8, &mut Rng::new(1, "rounding"));
    let mut found = noise.blocked();
    Level::PORTABLE.run(Round(&mut found));
    let found: Vec<f32> = milenas_models::kernels::cpu::layout::unblock(&found, Channels::one(16), 64);
    assert_close("twin", &found, &to_bfloat16(&noise).data);
}
