//! Data that every phase of a pass needs: the instruction set, the weights, the batch and its chunks.

use std::time::Instant;

use crate::kernels::cpu::{Level, Pack};

use super::parameters::Parameters;
use super::scratch::Workspace;

/// Number of chunks of a large batch. A task processes the images of one chunk. Sums over a chunk, then over chunks,
/// do not depend on the number of threads.
const CHUNKS: usize = 16;
/// Smallest number of images per chunk.
const SMALLEST: usize = 2;

/// Context of one pass over one batch.
#[derive(Copy, Clone)]
pub struct PassContext<'a> {
    /// The instruction set.
    pub level: Level,
    /// The weights.
    pub parameters: &'a Parameters,
    /// The buffers of all threads.
    pub workspace: &'a Workspace,
    /// Number of images.
    pub batch: usize,
    /// Whether the BatchNorms use the batch's statistics.
    pub training: bool,
}

impl PassContext<'_> {
    /// Number of images per chunk.
    pub fn chunk(&self) -> usize {
        self.batch.div_ceil(CHUNKS).max(SMALLEST)
    }

    /// Number of chunks of the batch.
    pub fn chunks(&self) -> usize {
        self.batch.div_ceil(self.chunk())
    }

    /// Range of the images of a chunk.
    pub fn images(&self, chunk: usize) -> core::ops::Range<usize> {
        chunk * self.chunk()..((chunk + 1) * self.chunk()).min(self.batch)
    }

    /// Splits `[image][len]` by chunks; `len` may be 0.
    pub fn cut<'b>(&self, mut packs: &'b mut [Pack], len: usize) -> Vec<&'b mut [Pack]> {
        let mut out = Vec::with_capacity(self.chunks());
        for chunk in 0..self.chunks() {
            let (head, tail) = packs.split_at_mut(self.images(chunk).len() * len);
            out.push(head);
            packs = tail;
        }
        out
    }
}

/// Time of each phase, summed over all passes: name and seconds.
#[derive(Default)]
pub struct Profile(pub Vec<(&'static str, f64)>);

impl Profile {
    /// Runs a phase and adds its time.
    pub fn time<T>(&mut self, phase: &'static str, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let out = run();
        let seconds = start.elapsed().as_secs_f64();
        match self.0.iter_mut().find(|(name, _)| *name == phase) {
            Some((_, total)) => *total += seconds,
            None => self.0.push((phase, seconds)),
        }
        out
    }
}
