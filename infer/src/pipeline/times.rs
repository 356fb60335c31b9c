//! Measures the time of a run, stage by stage.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Images and time of one stage, summed over its threads.
#[derive(Debug, Default)]
pub struct Stage {
    images: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Stage {
    /// Runs `work` on `images` images, and adds their number and the time.
    pub fn time<T>(&self, images: usize, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
        self.images.fetch_add(images as u64, Relaxed);
        result
    }

    /// Returns the number of images, and the seconds summed over all threads.
    pub fn total(&self) -> (u64, f64) {
        (self.images.load(Relaxed), self.nanoseconds.load(Relaxed) as f64 * 1e-9)
    }
}

/// Times of the stages of a run. Every worker reads, decodes and prepares images. One thread runs the
/// network, with the threads of its runtime, and writes rows.
#[derive(Debug, Default)]
pub struct Times {
    /// Time of reading files.
    pub read: Stage,
    /// Time of decoding images.
    pub decode: Stage,
    /// Time of resizing and normalising.
    pub prepare: Stage,
    /// Time of running the network.
    pub run: Stage,
    /// Time of writing rows.
    pub write: Stage,
}

impl Times {
    /// Returns the stages with their names, in the order in which an image passes them.
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
