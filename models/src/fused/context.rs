//! What every phase of a pass needs: the instruction set, the weights, the batch and how it is cut.

use std::time::Instant;

use crate::kernels::cpu::{Level, Pack};

use super::parameters::Parameters;
use super::scratch::Workspace;

/// Chunks that a large batch is cut into. A task works through the images of one chunk; sums over a chunk
/// and then over chunks do not depend on the number of threads.
const CHUNKS: usize = 16;
/// Fewest images of a chunk.
const SMALLEST: usize = 2;

/// One pass over one batch.
#[derive(Copy, Clone)]
pub struct PassContext<'a> {
    /// The instruction set.
    pub level: Level,
    /// The weights.
    pub parameters: &'a Parameters,
    /// The threads' buffers.
    pub workspace: &'a Workspace,
    /// Images.
    pub batch: usize,
    /// Whether the BatchNorms use the batch's statistics.
    pub training: bool,
}

impl PassContext<'_> {
    /// Images of a chunk.
    pub fn chunk(&self) -> usize {
        self.batch.div_ceil(CHUNKS).max(SMALLEST)
    }

    /// Chunks of the batch.
    pub fn chunks(&self) -> usize {
        self.batch.div_ceil(self.chunk())
    }

    /// The images of a chunk.
    pub fn images(&self, chunk: usize) -> core::ops::Range<usize> {
        chunk * self.chunk()..((chunk + 1) * self.chunk()).min(self.batch)
    }

    /// Cuts `[image][len]` by chunks; `len` may be 0.
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

/// Where the time of all passes went.
#[derive(Default)]
pub struct Profile(pub Vec<(&'static str, f64)>);

impl Profile {
    /// Runs and times a phase.
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
