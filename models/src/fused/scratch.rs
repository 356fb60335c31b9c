//! Buffers of a thread for one image at a time, kept between calls.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kernels::cpu::{MapSize, Pack};

/// A padded feature map whose border is zero.
#[derive(Default)]
pub struct PaddedMap {
    map: MapSize,
    packs: Vec<Pack>,
}

impl PaddedMap {
    /// Returns the feature map for this size. Its interior is not cleared.
    pub fn of(&mut self, map: MapSize) -> &mut [Pack] {
        if self.map != map {
            self.map = map;
            self.packs.clear();
            self.packs.resize(map.padded_len(), Pack::ZERO);
        }
        &mut self.packs
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub struct Scratch {
    /// Input after ReLU.
    pub a: PaddedMap,
    /// Gradient of a depthwise convolution's output.
    pub dz: PaddedMap,
    /// Gradient of other columns.
    pub columns: Vec<Pack>,
    /// A strip of columns.
    pub strip: Vec<Pack>,
    /// Gradient of a pointwise convolution's output, or of a pool's.
    pub dy: Vec<Pack>,
    /// Gradient of an input after ReLU.
    pub da: Vec<Pack>,
    /// Scratch memory of the pools.
    pub pool: Vec<Pack>,
}

/// Buffers of all threads.
#[derive(Default)]
pub struct Workspace(Vec<Mutex<Scratch>>);

impl Workspace {
    /// Allocates buffers for the threads of the current pool.
    pub fn prepare(&mut self) {
        let threads = rayon::current_num_threads();
        self.0.resize_with(threads.max(self.0.len()), Mutex::default);
    }

    /// Returns this thread's buffers. No data outlives a call, so a panic in another call does no harm.
    pub fn scratch(&self) -> MutexGuard<'_, Scratch> {
        let thread = rayon::current_thread_index().unwrap_or(0);
        self.0[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
