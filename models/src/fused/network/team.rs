//! Threads that share the steps of one image. They wait for each other by spinning: a step takes less time than waking a
//! thread.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::context::Context;
use super::forward::Written;
use super::{Maps, Network};

/// The number of the wave after the last one.
const END: usize = usize::MAX;
/// Looks for work before a thread lets others run.
const PATIENCE: usize = 20_000;

/// One thread that leads and others that help, for as long as an image takes.
pub(super) struct Team<'a> {
    network: &'a Network,
    context: &'a Context<'a>,
    /// How many waves were begun.
    begun: AtomicUsize,
    current: Mutex<Option<Arc<Wave>>>,
}

/// Steps that do not meet, what they write, and the maps that they read.
struct Wave {
    maps: Maps,
    work: Vec<Mutex<(usize, Written)>>,
    next: AtomicUsize,
    done: AtomicUsize,
}

/// Counts a step as done, even one that panics: the others would wait for it.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Sends the helpers home, even if the leader panics.
struct Dismissed<'a, 'b>(&'a Team<'b>);

impl Drop for Dismissed<'_, '_> {
    fn drop(&mut self) {
        self.0.begun.store(END, Ordering::Release);
    }
}

impl<'a> Team<'a> {
    /// Runs `lead` with all threads of rayon's current pool at hand. It does not wait for those that are busy elsewhere.
    pub(super) fn work(network: &'a Network, context: &'a Context<'a>, lead: impl FnOnce(&Team<'_>) + Send) {
        let team = Team { network, context, begun: AtomicUsize::new(0), current: Mutex::new(None) };
        rayon::scope(|scope| {
            (1..rayon::current_num_threads()).for_each(|_| scope.spawn(|_| team.help()));
            let dismissed = Dismissed(&team);
            lead(&team);
            drop(dismissed);
        });
    }

    /// Some steps that do not meet.
    pub(super) fn steps(&self, steps: &[usize], maps: &mut Maps) {
        if steps.len() < 2 {
            return self.network.steps(self.context, steps, maps);
        }
        let work = self.network.lift(steps, maps).into_iter().map(Mutex::new).collect();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut wave = Arc::new(Wave { maps: std::mem::take(maps), work, next, done });
        self.publish(Some(wave.clone()));
        self.begun.fetch_add(1, Ordering::Release);
        self.share(&wave);
        wait(|| wave.done.load(Ordering::Acquire) == wave.work.len());
        self.publish(None);
        let wave = loop {
            match Arc::try_unwrap(wave) {
                Ok(wave) => break wave,
                Err(shared) => wave = shared,
            }
            spin_loop();
        };
        *maps = wave.maps;
        let work =
            wave.work.into_iter().map(|step| step.into_inner().unwrap_or_else(PoisonError::into_inner));
        self.network.lay(work, maps);
    }

    fn publish(&self, wave: Option<Arc<Wave>>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = wave;
    }

    fn help(&self) {
        let mut seen = 0;
        loop {
            wait(|| self.begun.load(Ordering::Acquire) != seen);
            seen = self.begun.load(Ordering::Acquire);
            if seen == END {
                return;
            }
            let wave = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(wave) = wave {
                self.share(&wave);
            }
        }
    }

    /// Takes steps as long as there are any.
    fn share(&self, wave: &Wave) {
        while let Some(step) = wave.work.get(wave.next.fetch_add(1, Ordering::Relaxed)) {
            let _done = Done(&wave.done);
            let (at, written) = &mut *step.lock().unwrap_or_else(PoisonError::into_inner);
            self.network.compute(self.context, *at, &wave.maps, written);
        }
    }
}

fn wait(ready: impl Fn() -> bool) {
    let mut looks = 0;
    while !ready() {
        looks += 1;
        if looks % PATIENCE == 0 {
            std::thread::yield_now();
        } else {
            spin_loop();
        }
    }
}
