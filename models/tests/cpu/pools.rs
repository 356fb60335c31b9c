//! Tests of pools, and of the inputs of strided skip connections.

use milenas_models::Rng;
use milenas_models::kernels::cpu::strip::Strip;
use milenas_models::kernels::cpu::{Level, Pack, parity, pool};
use proptest::prelude::*;

use super::{Plain, reference};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pools_equal_their_references(
        stride in 1usize..3,
        (channels, height, width) in (1usize..36, 1usize..12, 1usize..12),
        steps in 1u32..40,
        seed: u64,
    ) {
        let rng = &mut Rng::new(seed, "pools");
        let mut input = Plain::noise(channels, height, width, rng);
        // Few distinct values, so that windows have several maxima.
        input.data.iter_mut().for_each(|x| *x = (*x * f64::from(steps)).round() / 8.0);
        let (h, w) = (height.div_ceil(stride), width.div_ceil(stride));
        let gradients = [0, 1].map(|_| Plain::noise(channels, h, w, rng));
        let before = Plain::noise(channels, height, width, rng);

        let mut outs = [Plain::zeros(channels, h, w), Plain::zeros(channels, h, w)];
        let mut backs = [before.clone(), before.clone()];
        reference::pools(stride, &input, &mut outs);
        reference::max_backward(stride, &input, &gradients[0], &mut backs[0]);
        reference::average_backward(stride, &gradients[1], &mut backs[1]);

        let (map, source) = (input.map(), input.blocked());
        for level in Level::available() {
            let [mut max, mut average] = [0, 1].map(|_| vec![Pack::ZERO; map.strided(stride).len()]);
            let mut sums = vec![Pack::ZERO; 4 * map.packs];
            let k = pool::PoolForward { stride, map, source: &source, max: &mut max, average: &mut average, sums: &mut sums };
            level.run(k);
            outs[0].assert_equals("max", level, &max);
            outs[1].assert_equals("average", level, &average);
            for (which, sums) in sums.chunks_exact(map.packs).enumerate() {
                let planes = outs[which / 2].data.chunks_exact(h * w);
                let of = |plane: &[f64]| plane.iter().map(|x| x.powi(1 + which as i32 % 2)).sum();
                let sum = Plain { channels, height: 1, width: 1, data: planes.map(of).collect() };
                sum.assert_equals("sums", level, sums);
            }
            let mut scratch = vec![Pack::ONE; (2 * height + 1) * w + 2];
            let mut found = before.blocked();
            level.run(pool::MaxBackward {
                stride, map, source: &source, max: &max, gradient: &gradients[0].blocked(),
                scratch: &mut scratch, out: &mut found,
            });
            backs[0].assert_equals("max backward", level, &found);
            let mut found = before.blocked();
            let gradient = gradients[1].blocked();
            level.run(pool::AverageBackward { stride, map, gradient: &gradient, scratch: &mut scratch, out: &mut found });
            backs[1].assert_equals("average backward", level, &found);
        }
    }

    #[test]
    fn parity_equals_its_reference(
        (channels, height, width) in (1usize..36, 1usize..12, 1usize..12),
        seed: u64,
    ) {
        let rng = &mut Rng::new(seed, "parity");
        let (input, before) = (Plain::noise(channels, height, width, rng), Plain::noise(channels, height, width, rng));
        let (h, w) = (height.div_ceil(2), width.div_ceil(2));
        let gradients = [0, 1].map(|_| Plain::noise(channels, h, w, rng));
        let mut halves = [Plain::zeros(channels, h, w), Plain::zeros(channels, h, w)];
        let mut back = before.clone();
        reference::gather(&input, &mut halves);
        reference::scatter(&gradients, &mut back);
        let map = input.map();
        let small = map.strided(2);
        for level in Level::available() {
            let mut found = vec![Pack::ONE; 2 * small.len()];
            level.run(parity::ParityGather {
                map, source: &input.blocked(), rows: 0..h, half: map.packs, out: Strip::new(&mut found, small.pixels()),
            });
            halves[0].assert_equals("even", level, &found[..small.len()]);
            halves[1].assert_equals("odd", level, &found[small.len()..]);
            let mut found = before.blocked();
            let [even, odd] = [0, 1].map(|parity: usize| gradients[parity].blocked());
            level.run(parity::ParityScatter { map, even: &even, odd: &odd, out: &mut found });
            back.assert_equals("scatter", level, &found);
        }
    }
}
