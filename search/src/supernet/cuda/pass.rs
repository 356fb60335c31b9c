//! What a pass through the network has on the device: packed weights, tables, results.

use milenas_models::Result;
use milenas_models::kernels::cuda::norm::{CudaMoments, NormCoefficients};
use milenas_models::kernels::cuda::{Device, Words};

use super::results::Results;

/// One pass. Offsets are those of [`Packing`](crate::resident::Packing) and [`Tables`](super::plan::Tables).
pub(super) struct SupernetPass<'a> {
    pub(super) device: &'a mut dyn Device,
    pub(super) batch: usize,
    /// Whether BatchNorms use the batch's moments.
    pub(super) training: bool,
    pub(super) weights: Words,
    /// As the weights; none at all where they are not wanted.
    pub(super) gradients: Words,
    pub(super) ints: Words,
    pub(super) floats: Words,
    pub(super) results: Results,
    pub(super) scratch: PassScratch,
}

/// How many parts of a pass have memory of their own, before the next uses that of the first again: neighbours may run at once.
const TURNS: usize = 8;

/// Memory that the parts of a pass use in turn.
#[derive(Clone, Copy, Default)]
pub(super) struct PassScratch {
    /// Sums and factors of terms: sum, a, b, c, reach.
    terms: [Words; 5],
    /// Of a part.
    each: usize,
    turn: usize,
}

impl PassScratch {
    /// For parts of at most so many terms times channels.
    pub(super) fn alloc(device: &mut dyn Device, each: usize) -> Result<PassScratch> {
        let mut scratch = PassScratch { each, ..PassScratch::default() };
        for words in &mut scratch.terms {
            *words = device.alloc(TURNS * each)?;
        }
        Ok(scratch)
    }
}

impl SupernetPass<'_> {
    /// For a part of the pass.
    pub(super) fn slopes(&mut self) -> Result<NormCoefficients> {
        let PassScratch { terms, each, turn } = self.scratch;
        self.scratch.turn = (turn + 1) % TURNS;
        let [sum, a, b, c, reach] = terms.map(|words| words.part(turn * each, each));
        Ok(NormCoefficients { sum: sum?, abc: [a?, b?, c?], reach: reach? })
    }

    pub(super) fn moments(&self, offset: usize) -> Result<CudaMoments> {
        Ok(CudaMoments {
            mean: self.results.mean.from(offset)?,
            variance: self.results.variance.from(offset)?,
        })
    }

    /// Those of so many maps times channels.
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

/// A pointwise convolution of a whole map, or of a half of it.
#[derive(Clone, Copy)]
pub(super) struct PointwiseProduct {
    /// Where the packed weights `[rows][columns]` are.
    pub(super) weights: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// What it reads, and writes.
    pub(super) x: Words,
    pub(super) y: Words,
}
