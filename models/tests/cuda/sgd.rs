//! Tests of an SGD step, and of copies of parameters.

use milenas_models::kernels::cuda::sgd::{SgdStep, SgdTensors, Table};

use crate::THREADS;
use crate::host::devices;
use crate::tensors::*;

/// Three parameters of seven, five and two elements, of which a pass has the last and the first.
const ALL: usize = 14;
const ROWS: [(i32, i32, i32); 2] = [(12, 0, 2), (0, 4, 7)];
const PACKED: usize = 11;

#[test]
fn parameters_are_gathered_and_updated() {
    for device in &mut devices(&THREADS) {
        for clip in [0.0, 0.5, 100.0] {
            let device = &mut **device;
            let values = |len: usize, seed: u64| flat(&tensor(&[len], seed, false));
            let (mut w, mut v, g) = (values(ALL, 1), values(ALL, 2), values(PACKED, 3));
            let table = Table {
                count: ROWS.len(),
                home: put_ints(device, &ROWS.map(|row| row.0)),
                packed: put_ints(device, &ROWS.map(|row| row.1)),
                lengths: put_ints(device, &ROWS.map(|row| row.2)),
            };
            let [on_w, on_v, on_g] = [&w, &v, &g].map(|values| put(device, values));
            let packed = zeros(device, PACKED);
            table.gather(device, on_w, packed).unwrap();
            let expected = [&w[12..], &[0.0; 2], &w[..7]].concat();
            check(device, "packed", packed, &expected);

            let rate = put(device, &[0.1]);
            let by = SgdStep { rate, momentum: 0.9, decay: 0.01, clip };
            let (sums, norm) = (zeros(device, 2), zeros(device, 2));
            let tensors = SgdTensors { w: on_w, velocity: on_v, gradient: on_g };
            table.sgd_step(device, tensors, sums, norm, by).unwrap();
            let squares = g[..2].iter().chain(&g[4..]).map(|x| x * x).sum::<f32>();
            let factor = if clip > 0.0 { (clip / squares.sqrt()).min(1.0) } else { 1.0 };
            check(device, "norm and factor", norm, &[squares.sqrt(), factor]);
            for (home, packed, len) in ROWS.map(|(a, b, c)| (a as usize, b as usize, c as usize)) {
                for i in 0..len {
                    v[home + i] = 0.9 * v[home + i] + (factor * g[packed + i] + 0.01 * w[home + i]);
                    w[home + i] -= 0.1 * v[home + i];
                }
            }
            check(device, "velocities", on_v, &v);
            check(device, "weights", on_w, &w);
            device.release().unwrap();
        }
    }
}
