//! State of a pass through the network on the device.

use milenas_models::Result;
use milenas_models::kernels::cuda::norm::CudaMoments;
use milenas_models::kernels::cuda::{Device, Words};

use super::maps::ChannelMap;

/// Pass through the network.
pub(super) struct NetworkPass<'a> {
    pub(super) device: &'a mut dyn Device,
    pub(super) batch: usize,
    /// Whether BatchNorms use the batch statistics.
    pub(super) training: bool,
    /// Images `[image][channel][row][column]`.
    pub(super) images: Words,
    /// Offset of each parameter in weights and gradients, by index.
    pub(super) at: &'a [usize],
    pub(super) weights: Words,
    pub(super) gradients: Words,
    pub(super) moments: CudaMoments,
    /// Factors of droppable paths, `[path][image]`; empty for none.
    pub(super) paths: Words,
    /// Feature maps and their gradients, by home.
    pub(super) values: &'a [Words],
    pub(super) slopes: &'a [Words],
    /// Factors of all BatchNorms' channels, at the offsets of their statistics.
    pub(super) scratch: [Words; 3],
}

impl NetworkPass<'_> {
    fn part(&self, memory: &[Words], map: ChannelMap) -> Result<Words> {
        let Some(home) = memory.get(map.home) else { return Ok(Words::NONE) };
        match home.is_empty() {
            // The network's input has no buffer of its own.
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

    /// Returns the factors of `channels` channels of the BatchNorm whose statistics start at `first`.
    pub(super) fn factors(&self, first: usize, channels: usize) -> Result<[Words; 3]> {
        let [a, b, c] = self.scratch.map(|words| words.part(first, channels));
        Ok([a?, b?, c?])
    }

    /// Returns the statistics that start at `first`.
    pub(super) fn moments(&self, first: usize) -> Result<CudaMoments> {
        let CudaMoments { mean, variance } = self.moments;
        Ok(CudaMoments { mean: mean.from(first)?, variance: variance.from(first)? })
    }
}
