//! Where the time of a run goes, stage by stage.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// What one stage did, summed over its threads.
#[derive(Debug, Default)]
pub struct Stage {
    images: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Stage {
    /// Does `work` on `images` images, and counts them and the time.
    pub fn time<T>(&self, images: usize, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
        self.images.fetch_add(images as u64, Relaxed);
        result
    }

    /// Images, and seconds of all threads together.
    pub fn total(&self) -> (u64, f64) {
        (self.images.load(Relaxed), self.nanoseconds.load(Relaxed) as f64 * 1e-9)
    }
}

/// The stages of a run. Reading, decoding and preparing happen on every worker; one thread computes (with what threads
/// the runtime starts) and writes.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Times {
    pub read: Stage,
    pub decode: Stage,
    pub prepare: Stage,
    pub run: Stage,
    pub write: Stage,
}

impl Times {
    /// Each with its name, in the order in which an image meets them.
    pub fn stages(&self) -> [(&'static str, &Stage); 5] {
        [
            ("read", &self.read),
            ("decode", &self.decode),
            ("prepare", &self.prepare),
            ("run", &self.run),
            ("write", &self.write),
        ]
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:8} {:>8} {:>10} {:>12}", "stage", "images", "seconds", "images/s")?;
        for (name, stage) in self.stages() {
            let (images, seconds) = stage.total();
            let rate = images as f64 / seconds.max(1e-9);
            writeln!(f, "{name:8} {images:>8} {seconds:>10.3} {rate:>12.1}")?;
        }
        Ok(())
    }
}
