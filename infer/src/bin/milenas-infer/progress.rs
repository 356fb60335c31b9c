//! Progress on standard error with rate and remaining time: a bar on a terminal, a periodic line elsewhere.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::spawn;
use std::time::{Duration, Instant};

use crate::console::note;
use indicatif::{ProgressBar, ProgressStyle};
use milenas_infer::inputs::Inputs;
use milenas_infer::shard::Shard;
use milenas_models::images::Skipped;

/// Interval between lines if standard error is not a terminal.
const QUIET: Duration = Duration::from_secs(30);

/// Progress of a run.
pub struct RunProgress {
    bar: ProgressBar,
    /// Number of images that were finished before this run.
    before: usize,
    done: usize,
    /// Total number of images; 0 until they have been counted.
    all: Arc<AtomicU64>,
    start: Instant,
    reported: Instant,
}

impl RunProgress {
    /// Starts the progress. Counts the inputs on a separate thread if they can be listed twice.
    pub fn new(inputs: &Inputs, shard: Option<Shard>, before: usize) -> Self {
        let bar = ProgressBar::no_length();
        // The template is constant, and a bar without it still counts.
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
            bar.set_style(style);
        }
        let all = Arc::new(AtomicU64::new(0));
        if inputs.repeatable() {
            let (inputs, all, bar) = (inputs.clone(), all.clone(), bar.clone());
            spawn(move || {
                let mut count = 0;
                let _ = inputs.walk(&mut Skipped::default(), &mut |_| {
                    count += 1;
                    ControlFlow::Continue(())
                });
                let count = shard.map_or(count, |shard| shard.share(count)) as u64;
                all.store(count, Relaxed);
                bar.set_length(count);
            });
        }
        let now = Instant::now();
        RunProgress { bar, before, done: 0, all, start: now, reported: now }
    }

    /// Advances by `count` images.
    pub fn advance(&mut self, count: usize) {
        self.done += count;
        self.bar.set_position((self.before + self.done) as u64);
        if self.bar.is_hidden() {
            if self.reported.elapsed() > QUIET {
                self.reported = Instant::now();
                note(self.progress_line());
            }
        } else {
            self.bar.set_message(self.progress_line());
        }
    }

    fn progress_line(&self) -> String {
        let seconds = self.start.elapsed().as_secs_f64().max(1e-3);
        let (rate, position) = (self.done as f64 / seconds, (self.before + self.done) as u64);
        match self.all.load(Relaxed) {
            0 => format!("{position} images, {rate:.1} images/s"),
            all => {
                let left = all.saturating_sub(position) as f64 / rate;
                format!("{position} of {all} images, {rate:.1} images/s, {} left", duration(left))
            }
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
