//! Decode ahead on all cores, run in batches, keep the order; memory is bounded whatever comes in.
//!
//! ```text
//! names ─> workers: read, decode, prepare ─> in order again ─> batches ─> runtime ─> results
//! ```
//!
//! The window, how far the workers may run ahead of the results, is the only queue: a slow image holds the ones behind
//! it up, and nothing piles up. A bad image costs itself and nothing else.

mod times;
mod window;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use milenas_models::images::Sample;
use milenas_models::input::{Image, InputContract, Limits, decode};

pub use times::{Stage, Times};
use window::InFlightWindow;

use crate::Result;
use crate::answer::Answer;
use crate::inputs::Item;
use crate::model::Classifier;

/// How long an image waits for its batch to fill: answers come also where inputs are slow.
const LINGER: Duration = Duration::from_millis(200);

/// Settings of a run.
#[derive(Clone, Copy, Debug)]
pub struct PipelineConfig {
    /// Batch size.
    pub batch: usize,
    /// Threads that decode.
    pub workers: usize,
    /// Largest sizes that one file may ask for.
    pub limits: Limits,
    /// Next step for a failure, which is added to its message.
    pub help: Help,
}

/// Next step for a failure to read or decode an image.
pub type Help = fn(&milenas_models::Error) -> Option<String>;

impl PipelineConfig {
    fn explain(&self, error: &milenas_models::Error) -> String {
        match (self.help)(error) {
            Some(help) => format!("{error}; help: {help}"),
            None => error.to_string(),
        }
    }
}

/// An input and its result.
#[derive(Clone, Debug)]
pub struct Classified<T> {
    /// The input.
    pub item: T,
    /// Answer of the network, or the reason why there is none.
    pub answer: std::result::Result<Answer, String>,
}

/// Input that can be read as an image.
pub trait ReadImage: Send {
    /// Reads and decodes the image; the time of each stage is added to `times`.
    fn read(&self, plan: &PipelineConfig, times: &Times) -> std::result::Result<Image, String>;
}

impl ReadImage for Item {
    fn read(&self, plan: &PipelineConfig, times: &Times) -> std::result::Result<Image, String> {
        match self {
            Item::Unusable { reason, .. } => Err(reason.clone()),
            Item::Image(from) => {
                let bytes = times.read.time(1, || from.read(&plan.limits)).map_err(|e| plan.explain(&e))?;
                times.decode.time(1, || decode(&bytes, &plan.limits)).map_err(|e| plan.explain(&e))
            }
        }
    }
}

impl ReadImage for Sample {
    fn read(&self, plan: &PipelineConfig, times: &Times) -> std::result::Result<Image, String> {
        times.decode.time(1, || self.image(&plan.limits)).map_err(|e| plan.explain(&e))
    }
}

/// The place of an item among all, the item, and `[C, H, W]` floats or the reason why there are none.
type Made<T> = (usize, T, std::result::Result<Vec<f32>, String>);

/// Runs everything that `items` brings, and hands the results to `keep` in that order, a batch at a time.
///
/// # Errors
/// The first of the runtime, or of `keep`; the senders of `items` then find it closed.
pub fn run<T: ReadImage>(
    model: &Classifier,
    plan: &PipelineConfig,
    times: &Times,
    items: Receiver<T>,
    mut keep: impl FnMut(Vec<Classified<T>>) -> Result<()>,
) -> Result<()> {
    let window = InFlightWindow::new(3 * plan.batch + plan.workers);
    let feed = Mutex::new((items, 0));
    std::thread::scope(|scope| {
        let (send, made) = channel();
        for _ in 0..plan.workers.max(1) {
            let send = send.clone();
            scope.spawn(|| work(&feed, &window, &model.input, plan, times, send));
        }
        drop(send);
        // Workers that wait for room are let go however this ends.
        let _closing = window.closing();
        in_batches(made, plan.batch, |batch| {
            let count = batch.len();
            keep(compute(model, times, batch)?)?;
            window.release(count);
            Ok(())
        })
    })
}

/// Takes items until there are no more, or the window closes.
fn work<T: ReadImage>(
    feed: &Mutex<(Receiver<T>, usize)>,
    window: &InFlightWindow,
    contract: &InputContract,
    plan: &PipelineConfig,
    times: &Times,
    send: Sender<Made<T>>,
) {
    loop {
        let (place, item) = {
            // A worker that panicked while it held the feed would have taken the program with it.
            let Ok(mut feed) = feed.lock() else { return };
            if !window.wait(feed.1) {
                return;
            }
            let item = loop {
                match feed.0.recv_timeout(LINGER) {
                    Ok(item) => break item,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) if !window.wait(feed.1) => return,
                    Err(RecvTimeoutError::Timeout) => {}
                }
            };
            feed.1 += 1;
            (feed.1 - 1, item)
        };
        let prepared = catch_unwind(AssertUnwindSafe(|| {
            let image = item.read(plan, times)?;
            times.prepare.time(1, || prepared(&image, contract)).map_err(|e| e.to_string())
        }));
        let prepared = prepared.unwrap_or_else(|_| Err("the program panicked on this image: a bug".into()));
        if send.send((place, item, prepared)).is_err() {
            return;
        }
    }
}

fn prepared(image: &Image, contract: &InputContract) -> milenas_models::Result<Vec<f32>> {
    let pixels = contract.prepare(image)?;
    let mut out = vec![0.0; contract.len()];
    contract.normalise(&pixels, &mut out);
    Ok(out)
}

/// Puts what is made in order again, and hands it on when a batch is full, or has waited long enough.
fn in_batches<T>(
    made: Receiver<Made<T>>,
    size: usize,
    mut run: impl FnMut(Vec<Made<T>>) -> Result<()>,
) -> Result<()> {
    let (mut early, mut ready, mut next) = (BTreeMap::new(), Vec::new(), 0);
    let mut due: Option<Instant> = None;
    loop {
        let wait = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
        let ended = match made.recv_timeout(wait) {
            Ok((place, item, pixels)) => {
                early.insert(place, (place, item, pixels));
                while let Some(one) = early.remove(&next) {
                    ready.push(one);
                    next += 1;
                }
                false
            }
            Err(RecvTimeoutError::Timeout) => {
                run(std::mem::take(&mut ready))?;
                false
            }
            Err(RecvTimeoutError::Disconnected) => true,
        };
        while ready.len() >= size || (ended && !ready.is_empty()) {
            let rest = ready.split_off(size.min(ready.len()));
            run(std::mem::replace(&mut ready, rest))?;
            due = None;
        }
        if ended {
            return Ok(());
        }
        due = if ready.is_empty() { None } else { due.or_else(|| Some(Instant::now() + LINGER)) };
    }
}

fn compute<T>(model: &Classifier, times: &Times, batch: Vec<Made<T>>) -> Result<Vec<Classified<T>>> {
    let good: Vec<&[f32]> = batch.iter().filter_map(|(_, _, pixels)| pixels.as_deref().ok()).collect();
    let answers = match good.len() {
        0 => Vec::new(),
        count => {
            let images = good.concat();
            times.run.time(count, || model.runtime.run(&images, count))?
        }
    };
    let mut answers = answers.into_iter();
    let classified = |(_, item, pixels): Made<T>| {
        let answer = pixels.and_then(|_| answers.next().ok_or_else(|| "the runtime gave no answer".into()));
        Classified { item, answer }
    };
    Ok(batch.into_iter().map(classified).collect())
}
