//! Tests of every CPU kernel against its reference implementation.
//!
//! Each test runs on all instruction sets of the processor.
#![allow(clippy::unwrap_used)]

mod convolutions;
mod layers;
mod pixelwise;
mod pools;
mod reference;
mod strips;

use milenas_models::kernels::cpu::layout::{block, unblock};
use milenas_models::kernels::cpu::{Channels, Level, Pack};

use reference::Plain;

/// Largest difference, relative to the largest element.
const TOLERANCE: f64 = 2e-5;

impl Plain {
    /// Asserts that a blocked feature map of the same shape is equal within tolerance.
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

/// Returns one value per channel, in packs.
fn per_channel(values: &[f64]) -> Vec<Pack> {
    let floats: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    block(&floats, Channels::one(values.len()), 1)
}
