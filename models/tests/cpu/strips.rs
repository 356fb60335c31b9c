//! Tests of columns in pairs of bfloat16: every kernel that writes columns, compared with its columns in f32.

use milenas_models::Rng;
use milenas_models::kernels::cpu::depthwise::{self, DepthwiseShape};
use milenas_models::kernels::cpu::elementwise::ReluForward;
use milenas_models::kernels::cpu::strip::{Strip, run};
use milenas_models::kernels::cpu::{LANES, Level, MapSize, Pack, bf16, parity, taps};
use proptest::prelude::*;

use super::Plain;

/// Reference conversion to pairs. Channels `2 i` and `2 i + 1` of a block are the low and high bits of a lane, and
/// two blocks of a feature map share a pack. Each feature map has `each` blocks.
pub fn paired(columns: &[Pack], pixels: usize, each: usize) -> Vec<Pack> {
    columns.chunks(each * pixels).flat_map(|map| paired_map(map, pixels)).collect()
}

fn paired_map(columns: &[Pack], pixels: usize) -> Vec<Pack> {
    let mut out = vec![Pack::ZERO; (columns.len() / pixels).div_ceil(2) * pixels];
    for (block, columns) in columns.chunks_exact(pixels).enumerate() {
        for (pixel, column) in columns.iter().enumerate() {
            for (i, pair) in column.0.chunks_exact(2).enumerate() {
                let [low, high] = [pair[0], pair[1]].map(|x| bf16::round(x).to_bits());
                let to = &mut out[block / 2 * pixels + pixel];
                to.0[block % 2 * (LANES / 2) + i] = f32::from_bits(low >> 16 | high);
            }
        }
    }
    out
}

/// Compares both storage formats of feature maps with `each` blocks, written after other such feature maps. Elements
/// that are not written stay zero in both.
fn check(name: &str, [before, maps, each, pixels]: [usize; 4], make: impl Fn(Level, bool, Strip<'_>)) {
    for level in Level::available().into_iter().filter(|level| level.has_pairs()) {
        let mut numbers = vec![Pack::ZERO; (before + maps) * each * pixels];
        let (mut pairs, before) = (paired(&numbers, pixels, each), before * each);
        make(level, false, Strip { packs: &mut numbers, pixels, before, each });
        make(level, true, Strip { packs: &mut pairs, pixels, before, each });
        assert_eq!(pairs, paired(&numbers, pixels, each), "{name}, {level:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn columns_in_pairs_are_the_rounded_numbers(
        (wide, dilation, stride) in (any::<bool>(), 1usize..3, 1usize..3),
        (channels, height, width) in (1usize..50, 1usize..9, 1usize..20),
        before in 0usize..4,
        seed: u64,
    ) {
        let shape = DepthwiseShape { kernel: if wide { 5 } else { 3 }, dilation, stride };
        let rng = &mut Rng::new(seed, "columns in pairs");
        let input = Plain::noise(channels, height, width, rng);
        let weight = Plain::noise(channels, shape.kernel, shape.kernel, rng).blocked();
        let (map, padded, source) = (input.map(), input.padded(), &input.blocked()[..]);
        let last = (channels - 1) % LANES + 1;
        let rows = |small: MapSize| small.height / 3..small.height;
        let dims = |small: MapSize, maps: usize| [before, maps, map.packs, rows(small).len() * small.width];

        let small = map.strided(stride);
        check("depthwise", dims(small, 1), |level, pairs, out| {
            let (source, weight) = (&padded[..], &weight[..]);
            run(level, pairs, depthwise::DepthwiseForward { shape, map, source, weight, rows: rows(small), last, out });
        });
        check("taps", dims(small, 9), |level, pairs, out| {
            let (rows, step) = (rows(small), map.packs);
            run(level, pairs, taps::TapsGather { stride, map, source, rows, step, out });
        });
        check("rectified", dims(map, 1), |level, pairs, out| {
            run(level, pairs, ReluForward { map, source, rows: rows(map), out });
        });
        let small = map.strided(2);
        check("parity", dims(small, 2), |level, pairs, out| {
            run(level, pairs, parity::ParityGather { map, source, rows: rows(small), half: map.packs, out });
        });
        check("halves", dims(small, 1), |level, pairs, out| {
            run(level, pairs, taps::AverageHalve { map, source, rows: rows(small), out });
        });
    }
}
