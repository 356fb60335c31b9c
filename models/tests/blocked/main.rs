//! Every blocked kernel against its slow twin: plain loops over `[C, H, W]`, in double precision.
//!
//! Each test runs on all instruction sets that the machine has.
#![allow(clippy::unwrap_used)]

mod convolutions;
mod pixelwise;
mod pools;

use milenas_models::Rng;
use milenas_models::kernels::blocked::layout::{block, unblock};
use milenas_models::kernels::blocked::{Channels, HALO, Level, Map, Pack};

/// Largest difference, relative to the largest element.
const TOLERANCE: f64 = 2e-5;

/// A map `[C, H, W]`.
#[derive(Clone, Debug)]
struct Plain {
    channels: usize,
    height: usize,
    width: usize,
    data: Vec<f64>,
}

impl Plain {
    fn zeros(channels: usize, height: usize, width: usize) -> Plain {
        Plain { channels, height, width, data: vec![0.0; channels * height * width] }
    }

    fn noise(channels: usize, height: usize, width: usize, rng: &mut Rng) -> Plain {
        let mut out = Plain::zeros(channels, height, width);
        out.data.iter_mut().for_each(|x| *x = f64::from(rng.uniform(-1.0, 1.0)));
        out
    }

    /// Outside the map 0.
    fn at(&self, c: usize, y: isize, x: isize) -> f64 {
        self.index(c, y, x).map_or(0.0, |i| self.data[i])
    }

    fn index(&self, c: usize, y: isize, x: isize) -> Option<usize> {
        let inside = (0..self.height as isize).contains(&y) && (0..self.width as isize).contains(&x);
        inside.then(|| (c * self.height + y as usize) * self.width + x as usize)
    }

    fn add(&mut self, c: usize, y: isize, x: isize, value: f64) {
        if let Some(i) = self.index(c, y, x) {
            self.data[i] += value;
        }
    }

    fn map(&self) -> Map {
        Map { packs: Channels::one(self.channels).packs(), height: self.height, width: self.width }
    }

    fn blocked(&self) -> Vec<Pack> {
        let floats: Vec<f32> = self.data.iter().map(|x| *x as f32).collect();
        block(&floats, Channels::one(self.channels), self.height * self.width)
    }

    fn padded(&self) -> Vec<Pack> {
        let map = self.map();
        let mut out = vec![Pack::ZERO; map.padded_len()];
        for (to, from) in out.chunks_exact_mut(map.padded_width()).zip(self.blocked().chunks_exact(map.width))
        {
            to[HALO..][..map.width].copy_from_slice(from);
        }
        out
    }

    /// Compares with a blocked map of the same shape.
    fn assert_equals(&self, name: &str, level: Level, found: &[Pack]) {
        let found = unblock(found, Channels::one(self.channels), self.height * self.width);
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
