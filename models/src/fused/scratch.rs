//! What a thread needs for one image at a time, kept between calls.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kernels::cpu::{MapSize, Pack};

/// A padded map whose border is zero.
#[derive(Default)]
pub struct PaddedMap {
    map: MapSize,
    packs: Vec<Pack>,
}

impl PaddedMap {
    /// The map, for this size; the inside keeps what the last user of the size left.
    pub fn of(&mut self, map: MapSize) -> &mut [Pack] {
        if self.map != map {
            self.map = map;
            self.packs.clear();
            self.packs.resize(map.padded_len(), Pack::ZERO);
        }
        &mut self.packs
    }
}

/// One thread's buffers.
#[derive(Default)]
pub struct Scratch {
    /// A rectified input.
    pub a: PaddedMap,
    /// The gradient of a depthwise convolution's output.
    pub dz: PaddedMap,
    /// The gradient of other columns.
    pub columns: Vec<Pack>,
    /// A strip of columns.
    pub strip: Vec<Pack>,
    /// The gradient of a pointwise convolution's output, or of a pool's.
    pub dy: Vec<Pack>,
    /// The gradient of a rectified input.
    pub da: Vec<Pack>,
    /// Whatever the pools need.
    pub pool: Vec<Pack>,
}

/// The buffers of all threads.
#[derive(Default)]
pub struct Workspace(Vec<Mutex<Scratch>>);

impl Workspace {
    /// Room for the threads of the current pool.
    pub fn prepare(&mut self) {
        let threads = rayon::current_num_threads();
        self.0.resize_with(threads.max(self.0.len()), Mutex::default);
    }

    /// This thread's buffers. They hold nothing that outlives a call, so a panic elsewhere does no harm.
    pub fn scratch(&self) -> MutexGuard<'_, Scratch> {
        let thread = rayon::current_thread_index().unwrap_or(0);
        self.0[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
