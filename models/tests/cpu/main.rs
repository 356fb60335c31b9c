//! Every blocked kernel against its slow twin.
//!
//! Each test runs on all instruction sets that the machine has.
#![allow(clippy::unwrap_used)]

mod convolutions;
mod layers;
mod pixelwise;
mod pools;
mod strips;
mod twins;

use milenas_models::kernels::cpu::layout::{block, unblock};
use milenas_models::kernels::cpu::{Channels, Level, Pack};

use twins::Plain;

/// Largest difference, relative to the largest element.
const TOLERANCE: f64 = 2e-5;

impl Plain {
    /// Compares with a blocked map of the same shape.
    fn assert_equals(&self, name: &str, level: Level, found: &[Pack]) {
        let found = unblock(found, Channels::one(self.channels), self.pixels());
        assert_close(&format!("{name}, {level:?}"), &found, &self.data);
    }
}

fn assert_close(name: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*found) - expected).abs() <= TOLERANCE * scale,
            "{name}, element {i}: {found}, expected {expected}"
        );
    }
}

/// One value per channel, in packs.
fn per_channel(values: &[f64]) -> Vec<Pack> {
    let floats: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    block(&floats, Channels::one(values.len()), 1)
}
