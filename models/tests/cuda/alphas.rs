//! Tests of a mixture's logits: their softmax weights, the gradient from the parts that a pass computes, and Adam's
//! steps.

use milenas_models::kernels::cuda::alphas::{AdamStep, DeviceLogits, Uses};

use crate::THREADS;
use crate::host::devices;
use crate::tensors::*;

const ROWS: usize = 5;
const COLUMNS: usize = 8;
const LOGITS: usize = ROWS * COLUMNS;

fn values(len: usize, seed: u64) -> Vec<f32> {
    flat(&tensor(&[len], seed, false))
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    logits
        .chunks(COLUMNS)
        .flat_map(|row| row.iter().map(|x| x.exp() / row.iter().map(|x| x.exp()).sum::<f64>()))
        .collect()
}

#[test]
fn weights_are_the_softmax_of_their_row() {
    for device in &mut devices(&THREADS) {
        let device = &mut **device;
        let mut logits = values(LOGITS, 1);
        // Values far from 0, where only differences matter, and one whose weight underflows to 0.
        logits[..COLUMNS].iter_mut().for_each(|x| *x += 300.0);
        logits[COLUMNS] = -1e9;
        let state = put(device, &[logits.clone(), vec![0.0; 2 * LOGITS]].concat());
        let alphas = DeviceLogits { state, rows: ROWS, columns: COLUMNS };
        let uses: Vec<i32> = (0..3 * LOGITS).map(|i| (7 * i % LOGITS) as i32).collect();
        let (on_device, weights) = (put_ints(device, &uses), zeros(device, uses.len()));
        alphas.softmax(device, on_device, weights).unwrap();
        let all: Vec<f64> = logits
            .iter()
            .enumerate()
            .map(|(i, x)| f64::from(*x) - if i < COLUMNS { 300.0 } else { 0.0 })
            .collect();
        let p = softmax(&all);
        let expected: Vec<f32> = uses.iter().map(|i| p[*i as usize] as f32).collect();
        check(device, "weights", weights, &expected);
        device.release().unwrap();
    }
}

#[test]
fn a_gradient_is_the_sum_of_its_uses() {
    for device in &mut devices(&THREADS) {
        let device = &mut **device;
        // Every third logit has no use; the others have up to four, of up to a hundred elements each.
        let (mut first, mut at, mut lengths) = (vec![0], Vec::new(), Vec::new());
        let mut words = 0;
        for logit in 0..LOGITS {
            for use_ in 0..(logit % 3) * (1 + logit % 2) {
                at.push(words);
                lengths.push(1 + (37 * (logit + use_) % 100) as i32);
                words += lengths[lengths.len() - 1] + 3;
            }
            first.push(at.len() as i32);
        }
        let (reach, before) = (values(words as usize, 2), values(LOGITS, 3));
        let uses = Uses {
            count: at.len(),
            first: put_ints(device, &first),
            at: put_ints(device, &at),
            lengths: put_ints(device, &lengths),
        };
        let alphas = DeviceLogits { state: zeros(device, 3 * LOGITS), rows: ROWS, columns: COLUMNS };
        let (on_device, gradient) = (put(device, &reach), put(device, &before));
        alphas.gradient(device, on_device, &uses, -0.5, gradient).unwrap();
        let expected: Vec<f32> = (0..LOGITS)
            .map(|logit| {
                let own = first[logit] as usize..first[logit + 1] as usize;
                let sum = own
                    .flat_map(|i| &reach[at[i] as usize..][..lengths[i] as usize])
                    .map(|x| f64::from(*x))
                    .sum::<f64>();
                (f64::from(before[logit]) - 0.5 * sum) as f32
            })
            .collect();
        check(device, "gradient", gradient, &expected);
        device.release().unwrap();
    }
}

/// Three steps, each with its own gradient and rate.
#[test]
fn steps_are_adams() {
    let (rate, beta1, beta2, decay) = (0.01, 0.5, 0.999, 0.001);
    for device in &mut devices(&THREADS) {
        let device = &mut **device;
        let mut logits: Vec<f64> = values(LOGITS, 4).into_iter().map(f64::from).collect();
        let (mut first, mut second) = (vec![0.0; LOGITS], vec![0.0; LOGITS]);
        let start: Vec<f32> = logits.iter().map(|x| *x as f32).chain(vec![0.0; 2 * LOGITS]).collect();
        let alphas = DeviceLogits { state: put(device, &start), rows: ROWS, columns: COLUMNS };
        for step in 1..=3 {
            let by_weights = values(LOGITS, 10 + step as u64);
            let bias = [beta1, beta2].map(|beta: f64| 1.0 - beta.powi(step));
            let by = put(device, &[(rate / bias[0]) as f32, bias[1] as f32]);
            let gradient = put(device, &by_weights);
            let how = AdamStep { by, beta1, beta2, decay };
            alphas.adam_step(device, gradient, &how).unwrap();
            let p = softmax(&logits);
            for i in 0..LOGITS {
                let row = i / COLUMNS * COLUMNS..(i / COLUMNS + 1) * COLUMNS;
                let mean: f64 = row.map(|k| p[k] * f64::from(by_weights[k])).sum();
                let g = p[i] * (f64::from(by_weights[i]) - mean) + decay * logits[i];
                first[i] = beta1 * first[i] + (1.0 - beta1) * g;
                second[i] = beta2 * second[i] + (1.0 - beta2) * g * g;
            }
            for i in 0..LOGITS {
                logits[i] -= rate / bias[0] * first[i] / ((second[i] / bias[1]).sqrt() + 1e-8);
            }
            let found = get(device, alphas.state);
            for (what, found, expected) in
                [("logits", 0, &logits), ("means", LOGITS, &first), ("squares", 2 * LOGITS, &second)]
                    .map(|(what, at, expected)| (what, &found[at..][..LOGITS], expected))
            {
                let expected: Vec<f32> = expected.iter().map(|x| *x as f32).collect();
                assert_close(&format!("{what}, step {step}"), found, &expected, TOLERANCE);
            }
        }
        device.release().unwrap();
    }
}
