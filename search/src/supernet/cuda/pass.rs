//! What a pass through the network has on the device: packed weights, tables, results.

use milenas_models::Result;
use milenas_models::kernels::cuda::norm::Moments;
use milenas_models::kernels::cuda::{Device, Words};

/// One pass. Offsets are those of [`Packing`](crate::resident::Packing) and [`Tables`](super::plan::Tables).
pub(super) struct Pass<'a> {
    pub(super) device: &'a mut dyn Device,
    pub(super) batch: usize,
    /// Whether BatchNorms use the batch's moments.
    pub(super) training: bool,
    pub(super) weights: Words,
    /// As the weights; none at all where they are not wanted.
    pub(super) gradients: Words,
    pub(super) ints: Words,
    pub(super) floats: Words,
    pub(super) mean: Words,
    pub(super) variance: Words,
    pub(super) reach: Words,
    pub(super) scratch: Scratch,
}

/// Memory that every part of a pass uses in turn.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    /// Sums and factors of terms: sum, a, b, c, reach.
    pub(super) terms: [Words; 5],
}

impl Pass<'_> {
    pub(super) fn moments(&self, offset: usize) -> Result<Moments> {
        Ok(Moments { mean: self.mean.from(offset)?, variance: self.variance.from(offset)? })
    }

    pub(super) fn wants_weights(&self) -> bool {
        !self.gradients.is_empty()
    }
}

/// A pointwise convolution of a whole map, or of a half of it.
#[derive(Clone, Copy)]
pub(super) struct Product {
    /// Where the packed weights `[rows][columns]` are.
    pub(super) weights: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// What it reads, and writes.
    pub(super) x: Words,
    pub(super) y: Words,
}
