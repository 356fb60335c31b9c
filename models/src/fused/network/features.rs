//! Features at watched wires, and gradients between two of them.

use rayon::prelude::*;

use crate::graph::{Graph, Value};
use crate::kernels::cpu::{Channels, LANES, Level, Pack};
use crate::{Error, Result};

use super::{FusedNetwork, MapSlot};

/// Values of a wire for a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Number of channels.
    pub channels: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
    /// Values, `[N, height, width, channels]`.
    pub values: Vec<f32>,
}

impl FusedNetwork {
    /// Compiles a graph like [`new`](Self::new), with features and gradients of the wires `watched`. The wires are
    /// feature maps in the order of the graph.
    ///
    /// # Errors
    /// A description of the node that this engine does not support.
    pub fn watching(graph: &Graph, watched: &[Value]) -> std::result::Result<FusedNetwork, String> {
        FusedNetwork::compiled(graph, &[], watched, Level::best())
    }

    /// Returns the features of a batch `[N, C, H, W]` in training mode at the watched wires. Updates the running
    /// statistics.
    ///
    /// # Errors
    /// [`Error::Value`] if the number of pixels does not fit the network.
    pub fn features(&mut self, images: &[f32]) -> Result<Vec<Features>> {
        let batch = self.check(images)?;
        self.forget_factors();
        rayon::scope(|_| self.forward(images, batch, false));
        Ok(self
            .program
            .watched
            .iter()
            .map(|w| self.read_features(&self.maps.states, w.slot, batch))
            .collect())
    }

    /// Pulls gradients back from each watched wire to the one before it, for a batch `[N, C, H, W]` in training mode.
    /// `gradients[i]`, `[N, height, width, channels]`, is that of watched wire `i + 1`. Element `i` of the result is
    /// its product with the Jacobian with respect to watched wire `i`. Updates the running statistics.
    ///
    /// # Errors
    /// [`Error::Value`] if the number of pixels or of gradients does not fit the network.
    pub fn pull_back(&mut self, images: &[f32], gradients: &[Vec<f32>]) -> Result<Vec<Features>> {
        let batch = self.check(images)?;
        let watched = self.program.watched.clone();
        let found: Vec<usize> = gradients.iter().map(Vec::len).collect();
        let len = |slot: MapSlot| batch * slot.channels.count() * slot.map.pixels();
        let expected: Vec<usize> = watched.iter().skip(1).map(|wire| len(wire.slot)).collect();
        if found != expected {
            let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
            return Err(Error::Value { what: "numbers of gradients of features".into(), found, expected });
        }
        self.forget_factors();
        rayon::scope(|_| self.forward(images, batch, false));
        let mut unwanted = self.take_unwanted();
        let mut pulled = Vec::with_capacity(expected.len());
        for (wires, gradient) in watched.windows(2).zip(gradients).rev() {
            let [input, output] = [wires[0], wires[1]];
            self.release_all();
            self.gradients.claim(output.slot, batch);
            self.write_gradient(output.slot, gradient);
            rayon::scope(|_| self.steps_back(input.end..output.end, &mut unwanted, false));
            self.gradients.zero_unwritten(input.slot, batch);
            pulled.push(self.read_features(&self.gradients.rooms, input.slot, batch));
        }
        self.release_all();
        self.unwanted = unwanted;
        pulled.reverse();
        Ok(pulled)
    }

    fn release_all(&mut self) {
        (0..self.program.images.len()).for_each(|buffer| self.gradients.release(buffer));
    }

    fn read_features(&self, states: &[Vec<Pack>], slot: MapSlot, batch: usize) -> Features {
        let (view, channels) = (self.view(states, slot), slot.channels.count());
        let mut values = vec![0.0; batch * channels * slot.map.pixels()];
        values.par_chunks_exact_mut(channels * slot.map.pixels()).enumerate().for_each(|(i, image)| {
            for (block, packs) in view.image(i).chunks_exact(slot.map.pixels()).enumerate() {
                let filled = slot.channels.filled(block);
                for (pixel, pack) in image.chunks_exact_mut(channels).zip(packs) {
                    pixel[first_channel(slot.channels, block)..][..filled].copy_from_slice(&pack.0[..filled]);
                }
            }
        });
        Features { channels, height: slot.map.height, width: slot.map.width, values }
    }

    fn write_gradient(&mut self, slot: MapSlot, values: &[f32]) {
        let (channels, pixels) = (slot.channels.count(), slot.map.pixels());
        let images = self.gradients.rooms[slot.buffer].par_chunks_exact_mut(self.program.images[slot.buffer]);
        images.zip(values.par_chunks_exact(channels * pixels)).for_each(|(image, values)| {
            let blocks = image[slot.offset..][..slot.map.len()].chunks_exact_mut(pixels);
            for (block, packs) in blocks.enumerate() {
                let filled = slot.channels.filled(block);
                for (pixel, pack) in values.chunks_exact(channels).zip(packs) {
                    *pack = Pack::ZERO;
                    let from = &pixel[first_channel(slot.channels, block)..][..filled];
                    pack.0[..filled].copy_from_slice(from);
                }
            }
        });
    }
}

/// Returns the first channel of a block.
fn first_channel(channels: Channels, block: usize) -> usize {
    let packs = channels.each.div_ceil(LANES);
    block / packs * channels.each + block % packs * LANES
}
