//! Activation codes of a batch: which ReLU outputs are positive, image by image (NASWOT, section 3.1).

use std::collections::HashMap;

use rayon::prelude::*;

use crate::Result;
use crate::kernels::cpu::codes::{Differing, Signs, words};
use crate::kernels::cpu::norm::Scaling;
use crate::kernels::cpu::{Channels, LANES, MapSize, Pack};

use super::super::context::PassContext;
use super::liveness::MapBuffer;
use super::{ConvSource, FusedNetwork, MapSlot, Maps, TrainStep};

/// Differences between the codes of a batch, over all ReLUs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Codes {
    /// Number of bits of a code. A value that several ReLUs read counts once for each.
    pub units: u64,
    /// Number of bits in which the codes of two images differ, `[N, N]`.
    pub differing: Vec<u64>,
}

/// Feature map buffers of a batch, which can be reused by another network.
#[derive(Default)]
pub struct BufferPool(HashMap<usize, Vec<Vec<Pack>>>);

/// Input of a ReLU: packs by image, packs from one image to the next, size and channels.
struct ReadMap<'a> {
    packs: &'a [Pack],
    step: usize,
    map: MapSize,
    channels: Channels,
    scaling: &'a Scaling,
}

/// Feature maps of a batch, and free buffers by size.
#[derive(Default)]
struct BatchMaps {
    maps: Maps,
    free: HashMap<usize, Vec<Vec<Pack>>>,
}

impl BatchMaps {
    /// Returns empty feature maps for the given numbers of steps and buffers, with the free buffers of an earlier
    /// pass.
    fn with(free: HashMap<usize, Vec<Vec<Pack>>>, steps: usize, buffers: usize) -> BatchMaps {
        let maps = Maps {
            made: (0..steps).map(|_| Vec::new()).collect(),
            states: (0..buffers).map(|_| Vec::new()).collect(),
            ..Maps::default()
        };
        BatchMaps { maps, free }
    }

    /// Returns all buffers.
    fn end(mut self) -> HashMap<usize, Vec<Vec<Pack>>> {
        let left = self.maps.made.into_iter().chain(self.maps.states);
        left.filter(|packs| !packs.is_empty())
            .for_each(|packs| self.free.entry(packs.len()).or_default().push(packs));
        self.free
    }

    fn room(&mut self, room: MapBuffer) -> &mut Vec<Pack> {
        match room {
            MapBuffer::Made(i) => &mut self.maps.made[i],
            MapBuffer::State(buffer) => &mut self.maps.states[buffer],
        }
    }

    fn take(&mut self, room: MapBuffer, len: usize) {
        let found = self.free.entry(len).or_default().pop();
        *self.room(room) = found.unwrap_or_else(|| vec![Pack::ZERO; len]);
    }

    fn give(&mut self, room: MapBuffer) {
        let packs = std::mem::take(self.room(room));
        if packs.is_empty() {
            return;
        }
        self.free.entry(packs.len()).or_default().push(packs);
    }
}

impl FusedNetwork {
    /// Computes the codes of a batch `[N, C, H, W]` in training mode. Every ReLU of the graph counts, also one before
    /// a convolution that is followed by `none`. Updates the running statistics.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if the number of pixels does not fit the network.
    pub fn codes(&mut self, images: &[f32], rooms: &mut BufferPool) -> Result<Codes> {
        let batch = self.check(images)?;
        let mut codes = Codes { units: 0, differing: vec![0; batch * batch] };
        self.for_each_relu(images, rooms, &mut |network, count, read| {
            network.add_codes(read, count, batch, &mut codes);
        })?;
        for i in 0..batch {
            (0..i).for_each(|j| codes.differing[i * batch + j] = codes.differing[j * batch + i]);
        }
        Ok(codes)
    }

    /// Computes the pattern of every ReLU output over a batch `[N, C, H, W]` in training mode: bit `i` is set where the
    /// output is positive for image `i`. `visit` receives the patterns of one feature map, and the number of ReLUs that
    /// read it. Updates the running statistics.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if the number of pixels does not fit the network, and for more than 64
    /// images.
    pub fn patterns(
        &mut self,
        images: &[f32],
        rooms: &mut BufferPool,
        visit: &mut dyn FnMut(u64, &[u64]),
    ) -> Result<()> {
        let batch = self.check(images)?;
        if batch > 64 {
            let (found, expected) = (batch.to_string(), "at most 64 images".into());
            return Err(crate::Error::Value { what: "the batch of patterns".into(), found, expected });
        }
        self.for_each_relu(images, rooms, &mut |network, count, read| {
            let bits = network.signs(read, batch);
            visit(count, &transposed(&bits, words(read.map.len()), read));
        })
    }

    /// Runs a batch through the network, and calls `visit` with each feature map that ReLUs read, and their number.
    fn for_each_relu(
        &mut self,
        images: &[f32],
        rooms: &mut BufferPool,
        visit: &mut dyn FnMut(&FusedNetwork, u64, &ReadMap<'_>),
    ) -> Result<()> {
        let batch = self.check(images)?;
        self.forget_factors();
        self.workspace.prepare();
        self.program.tensors.parameters.refresh();
        let mut worker = BatchMaps::with(
            std::mem::take(&mut rooms.0),
            self.program.steps.len(),
            self.program.images.len(),
        );
        self.resize_sums(&mut worker.maps, batch);
        worker.take(MapBuffer::State(0), batch * self.program.images[0]);
        let (level, parameters, workspace) = (self.level, &self.program.tensors.parameters, &self.workspace);
        let c = PassContext { level, parameters, workspace, batch, training: true };
        let (stem, statistics) = (&mut self.program.stem, &mut self.program.tensors.statistics);
        stem.forward(&c, images, statistics, &mut worker.maps.states[0]);
        for at in 0..self.program.steps.len() {
            for i in 0..self.program.lives.taken[at].len() {
                let room = self.program.lives.taken[at][i];
                if !matches!(room, MapBuffer::Made(step) if self.idles(step)) {
                    worker.take(room, batch * self.packs_of(room));
                }
            }
            self.step(&self.context(batch), at, &mut worker.maps);
            self.normalise(at, &worker.maps);
            if let Some((count, read)) = self.relu_input(at, &worker) {
                visit(self, count, &read);
            }
            self.program.lives.given[at].iter().for_each(|&room| worker.give(room));
        }
        if self.program.head.applies_relu {
            visit(self, 1, &self.state_read(self.program.last, &worker));
        }
        rooms.0 = worker.end();
        Ok(())
    }

    fn packs_of(&self, room: MapBuffer) -> usize {
        match room {
            MapBuffer::Made(i) => self.program.steps[i].made(),
            MapBuffer::State(buffer) => self.program.images[buffer],
        }
    }

    /// Returns the input of the ReLU before a convolution, and the number of ReLUs with the same input. Returns
    /// `None` for all but the first of these.
    fn relu_input<'a>(&'a self, at: usize, worker: &'a BatchMaps) -> Option<(u64, ReadMap<'a>)> {
        let slot_of = |step: &TrainStep| match step {
            TrainStep::Convolution(c) if c.unit.columns.applies_relu() => match c.source {
                ConvSource::State(slot) => Some(slot),
                ConvSource::Normed(_) => None,
            },
            _ => None,
        };
        let steps = &self.program.steps;
        let TrainStep::Convolution(convolution) = &steps[at] else { return None };
        match convolution.source {
            ConvSource::Normed(before) => {
                let map = convolution.unit.input;
                let (packs, scaling) = (&worker.maps.made[before][..], self.scaling(before)?);
                let channels = Channels::one(self.program.norms[before].as_ref()?.channels());
                Some((1, ReadMap { packs, step: map.len(), map, channels, scaling }))
            }
            ConvSource::State(_) => {
                let slot = slot_of(&steps[at])?;
                let same = |step: &TrainStep| slot_of(step) == Some(slot);
                let first = !steps[..at].iter().any(same);
                let count = steps[at..].iter().filter(|step| same(step)).count() as u64;
                first.then(|| (count, self.state_read(slot, worker)))
            }
        }
    }

    fn state_read<'a>(&'a self, slot: MapSlot, worker: &'a BatchMaps) -> ReadMap<'a> {
        ReadMap {
            packs: &worker.maps.states[slot.buffer][slot.offset..],
            step: self.program.images[slot.buffer],
            map: slot.map,
            channels: slot.channels,
            scaling: &self.program.identity,
        }
    }

    fn add_codes(&self, read: &ReadMap<'_>, count: u64, batch: usize, codes: &mut Codes) {
        let len = words(read.map.len());
        let bits = self.signs(read, batch);
        let code = |i: usize| &bits[i * len..][..len];
        codes.differing.par_chunks_exact_mut(batch).enumerate().for_each(|(i, row)| {
            for (j, sum) in row.iter_mut().enumerate().skip(i + 1) {
                *sum += count * self.level.run(Differing { left: code(i), right: code(j) });
            }
        });
        codes.units += count * (read.channels.count() * read.map.pixels()) as u64;
    }

    /// Returns the bits of the positive outputs, image by image.
    fn signs(&self, read: &ReadMap<'_>, batch: usize) -> Vec<u64> {
        let ReadMap { packs, step, map, scaling, .. } = read;
        let len = words(map.len());
        let mut bits = vec![0; batch * len];
        bits.par_chunks_exact_mut(len).enumerate().for_each(|(i, out)| {
            let source = &packs[i * step..][..map.len()];
            let Scaling { scale, shift } = scaling;
            self.level.run(Signs { pixels: map.pixels(), source, scale, shift, out });
        });
        bits
    }
}

/// Returns the pattern of each output over the images, from the bits of each image. Lanes without a channel are
/// omitted.
fn transposed(bits: &[u64], len: usize, read: &ReadMap<'_>) -> Vec<u64> {
    let (pixels, channels) = (read.map.pixels(), read.channels);
    let blocks = Channels::one(channels.each).packs();
    let mut patterns = Vec::with_capacity(channels.count() * pixels);
    for word in 0..len {
        for bit in 0..64 {
            let pack = (64 * word + bit) / LANES;
            let channel = pack / pixels % blocks * LANES + bit % LANES;
            if pack < read.map.len() && channel < channels.each {
                let images = bits.iter().skip(word).step_by(len).enumerate();
                patterns.push(images.fold(0, |pattern, (i, bits)| pattern | (((bits >> bit) & 1) << i)));
            }
        }
    }
    patterns
}
