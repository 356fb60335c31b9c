//! Progress on standard error: a bar with rate and remaining time on a terminal, plain lines elsewhere.

use std::time::Instant;

use crate::console::{flags, note};
use indicatif::{ProgressBar, ProgressStyle};

use milenas_search::strategy::ProgressSink;

/// Seconds between plain lines.
const LINE_INTERVAL: f64 = 10.0;

/// Progress bar over all steps of all epochs.
#[derive(Debug)]
pub struct EpochProgress {
    bar: ProgressBar,
    task: &'static str,
    epoch: (usize, usize),
    start: Option<Instant>,
    last_line: f64,
    images: usize,
    steps: (usize, usize),
    /// Number of steps done by the interrupted runs before this one.
    before: usize,
}

impl EpochProgress {
    /// Creates the progress bar of a task, for example `search`.
    pub fn new(task: &'static str) -> Self {
        let bar = ProgressBar::no_length();
        // The template is constant. If it were invalid, the default bar would be shown.
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {eta} left") {
            bar.set_style(style);
        }
        EpochProgress {
            bar,
            task,
            epoch: (0, 0),
            start: None,
            last_line: 0.0,
            images: 0,
            steps: (0, 0),
            before: 0,
        }
    }

    /// Prints a line above the bar, where it stays.
    pub fn line(&self, text: &str) {
        if self.bar.is_hidden() { note(text) } else { self.bar.println(flags(text)) }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl ProgressSink for EpochProgress {
    fn note(&mut self, text: &str) {
        self.line(&format!("warning: {text}"));
    }

    fn begin(&mut self, epoch: usize, epochs: usize, steps: usize, done: usize) {
        // A search of whole architectures begins a training for each.
        if self.start.is_none() || epoch + done == 0 {
            self.start = Some(Instant::now());
            (self.images, self.last_line) = (0, 0.0);
            self.before = epoch * steps + done;
            self.steps.0 = self.before;
            self.bar.set_position(self.before as u64);
            self.bar.reset_eta();
        }
        self.epoch = (epoch + 1, epochs);
        self.steps.1 = steps * epochs;
        self.bar.set_length(self.steps.1 as u64);
        self.bar.set_prefix(format!("{} epoch {}/{epochs}", self.task, epoch + 1));
    }

    fn step(&mut self, loss: f64, images: usize) {
        self.images += images;
        self.steps.0 += 1;
        let seconds = self.start.map_or(0.0, |s| s.elapsed().as_secs_f64());
        let rate = self.images as f64 / seconds.max(1e-9);
        self.bar.set_position(self.steps.0 as u64);
        self.bar.set_message(format!("loss {loss:.3} {rate:.0} images/s"));
        if self.bar.is_hidden() && seconds - self.last_line > LINE_INTERVAL {
            self.last_line = seconds;
            let (done, all) = self.steps;
            let left = seconds / (done - self.before) as f64 * all.saturating_sub(done) as f64;
            let (epoch, epochs) = self.epoch;
            let task = self.task;
            self.line(&format!(
                "{task} epoch {epoch}/{epochs}, step {done}/{all}: loss {loss:.3}, {rate:.0} images/s, {left:.0} s left"
            ));
        }
    }
}
