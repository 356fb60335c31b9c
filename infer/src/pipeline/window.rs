//! How far ahead of the results work may be.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Window of `size` places that begins at the first unfinished one.
pub(super) struct InFlightWindow {
    /// How many are finished, and whether no more are wanted.
    state: Mutex<(usize, bool)>,
    moved: Condvar,
    size: usize,
}

/// Closes the window when it goes.
pub(super) struct Closing<'a>(&'a InFlightWindow);

impl InFlightWindow {
    pub(super) fn new(size: usize) -> Self {
        InFlightWindow { state: Mutex::new((0, false)), moved: Condvar::new(), size }
    }

    /// Two numbers are right whatever became of the thread that wrote them.
    fn state(&self) -> MutexGuard<'_, (usize, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `place` lies inside. False when the window was closed.
    pub(super) fn wait(&self, place: usize) -> bool {
        let outside = |state: &mut (usize, bool)| place - state.0 >= self.size && !state.1;
        let state = self.moved.wait_while(self.state(), outside).unwrap_or_else(PoisonError::into_inner);
        !state.1
    }

    /// Moves on by `count` places.
    pub(super) fn release(&self, count: usize) {
        self.state().0 += count;
        self.moved.notify_all();
    }

    /// Closes the window when the result goes out of scope.
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
