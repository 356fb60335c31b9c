//! Window that limits how far work may run ahead of the results.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Window of `size` items that begins at the first unfinished item.
pub(super) struct InFlightWindow {
    /// Number of finished items, and whether the window is closed.
    state: Mutex<(usize, bool)>,
    moved: Condvar,
    size: usize,
}

/// Guard that closes the window when it is dropped.
pub(super) struct Closing<'a>(&'a InFlightWindow);

impl InFlightWindow {
    pub(super) fn new(size: usize) -> Self {
        InFlightWindow { state: Mutex::new((0, false)), moved: Condvar::new(), size }
    }

    /// Locks the state. A panic of another thread cannot leave the state inconsistent.
    fn state(&self) -> MutexGuard<'_, (usize, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until item `place` is inside the window. Returns false if the window is closed.
    pub(super) fn wait(&self, place: usize) -> bool {
        let outside = |state: &mut (usize, bool)| place - state.0 >= self.size && !state.1;
        let state = self.moved.wait_while(self.state(), outside).unwrap_or_else(PoisonError::into_inner);
        !state.1
    }

    /// Moves the window on by `count` finished items.
    pub(super) fn release(&self, count: usize) {
        self.state().0 += count;
        self.moved.notify_all();
    }

    /// Returns a guard that closes the window when it goes out of scope.
    pub(super) fn closing(&self) -> Closing<'_> {
        Closing(self)
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state().1 = true;
        self.0.moved.notify_all();
    }
}
