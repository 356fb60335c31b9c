//! State of a pass through the supernet on the device: packed weights, tables, results.

use milenas_models::Result;
use milenas_models::kernels::cuda::norm::{CudaMoments, NormCoefficients};
use milenas_models::kernels::cuda::{Device, Words};

use super::results::Results;

/// Pass through the supernet. Offsets are those of [`Packing`](crate::resident::Packing) and
/// [`Tables`](super::plan::Tables).
pub(super) struct SupernetPass<'a> {
    pub(super) device: &'a mut dyn Device,
    pub(super) batch: usize,
    /// Whether BatchNorms use the batch statistics.
    pub(super) training: bool,
    pub(super) weights: Words,
    /// Gradients, packed like the weights; empty if they are not requested.
    pub(super) gradients: Words,
    pub(super) ints: Words,
    pub(super) floats: Words,
    pub(super) results: Results,
    pub(super) scratch: PassScratch,
}

/// Number of parts of a pass with separate scratch memory. Neighbouring parts may therefore run at once.
const SLOTS: usize = 8;

/// Scratch memory that the parts of a pass use as a ring buffer.
#[derive(Clone, Copy, Default)]
pub(super) struct PassScratch {
    /// Buffers of the terms: sum, a, b, c, and gradient with respect to the mixture.
    terms: [Words; 5],
    /// Number of elements of a part.
    each: usize,
    /// Index of the next part.
    turn: usize,
}

impl PassScratch {
    /// Allocates scratch memory for parts of at most `each` elements (terms times channels).
    pub(super) fn alloc(device: &mut dyn Device, each: usize) -> Result<PassScratch> {
        let mut scratch = PassScratch { each, ..PassScratch::default() };
        for words in &mut scratch.terms {
            *words = device.alloc(SLOTS * each)?;
        }
        Ok(scratch)
    }
}

impl SupernetPass<'_> {
    /// Returns the coefficients' buffers for the next part of the pass.
    pub(super) fn slopes(&mut self) -> Result<NormCoefficients> {
        let PassScratch { terms, each, turn } = self.scratch;
        self.scratch.turn = (turn + 1) % SLOTS;
        let [sum, a, b, c, reach] = terms.map(|words| words.part(turn * each, each));
        Ok(NormCoefficients { sum: sum?, abc: [a?, b?, c?], reach: reach? })
    }

    pub(super) fn moments(&self, offset: usize) -> Result<CudaMoments> {
        Ok(CudaMoments {
            mean: self.results.mean.from(offset)?,
            variance: self.results.variance.from(offset)?,
        })
    }

    /// Returns `len` statistics (feature maps times channels) from `offset` on.
    pub(super) fn moments_of(&self, offset: usize, len: usize) -> Result<CudaMoments> {
        Ok(CudaMoments {
            mean: self.results.mean.part(offset, len)?,
            variance: self.results.variance.part(offset, len)?,
        })
    }

    pub(super) fn wants_weights(&self) -> bool {
        !self.gradients.is_empty()
    }
}

/// Pointwise convolution of a whole feature map, or of half of its channels.
#[derive(Clone, Copy)]
pub(super) struct PointwiseProduct {
    /// Offset of the packed weights `[rows][columns]`.
    pub(super) weights: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Input and output.
    pub(super) x: Words,
    pub(super) y: Words,
}
