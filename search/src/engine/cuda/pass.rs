//! What a pass through the network has on the device.

use milenas_models::Result;
use milenas_models::kernels::cuda::norm::CudaMoments;
use milenas_models::kernels::cuda::{Device, Words};

use super::maps::ChannelMap;

/// One pass.
pub(super) struct NetworkPass<'a> {
    pub(super) device: &'a mut dyn Device,
    pub(super) batch: usize,
    /// Whether BatchNorms use the batch's moments.
    pub(super) training: bool,
    /// `[image][channel][row][column]`
    pub(super) images: Words,
    /// Where each parameter begins, by number, in weights and gradients.
    pub(super) at: &'a [usize],
    pub(super) weights: Words,
    pub(super) gradients: Words,
    pub(super) moments: CudaMoments,
    /// By what results of paths are multiplied, `[path][image]`; none at all for none.
    pub(super) paths: Words,
    /// By home: its maps, and their gradients.
    pub(super) values: &'a [Words],
    pub(super) slopes: &'a [Words],
    /// Factors of all BatchNorms' channels, which lie as their moments do.
    pub(super) scratch: [Words; 3],
}

impl NetworkPass<'_> {
    fn part(&self, memory: &[Words], map: ChannelMap) -> Result<Words> {
        let Some(home) = memory.get(map.home) else { return Ok(Words::NONE) };
        match home.is_empty() {
            // Of what is fed.
            true => Ok(Words::NONE),
            false => home.part(map.first * map.length(self.batch), map.words(self.batch)),
        }
    }

    pub(super) fn value(&self, map: ChannelMap) -> Result<Words> {
        self.part(self.values, map)
    }

    pub(super) fn gradient(&self, map: ChannelMap) -> Result<Words> {
        self.part(self.slopes, map)
    }

    pub(super) fn weight(&self, id: usize) -> Result<Words> {
        self.weights.from(self.at[id])
    }

    pub(super) fn weight_gradient(&self, id: usize) -> Result<Words> {
        self.gradients.from(self.at[id])
    }

    /// Factors of so many channels of the BatchNorm whose first moments are these.
    pub(super) fn factors(&self, first: usize, channels: usize) -> Result<[Words; 3]> {
        let [a, b, c] = self.scratch.map(|words| words.part(first, channels));
        Ok([a?, b?, c?])
    }

    /// Those of a BatchNorm whose first are these.
    pub(super) fn moments(&self, first: usize) -> Result<CudaMoments> {
        let CudaMoments { mean, variance } = self.moments;
        Ok(CudaMoments { mean: mean.from(first)?, variance: variance.from(first)? })
    }
}
