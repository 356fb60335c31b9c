//! Decodes images ahead on all cores, runs them in batches and keeps their order, with bounded memory.
//!
//! ```text
//! names ─> workers: read, decode, prepare ─> input order restored ─> batches ─> runtime ─> results
//! ```
//!
//! A window limits how far the workers may run ahead of the results, and there is no other queue. A slow
//! image therefore delays those behind it, and memory stays bounded. An image that cannot be read does not
//! affect the others.

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

/// Longest time that an image waits for its batch to fill. Slow inputs thus still give results.
const LINGER: Duration = Duration::from_millis(200);

/// Settings of a run.
#[derive(Clone, Copy, Debug)]
pub struct PipelineConfig {
    /// Batch size.
    pub batch: usize,
    /// Number of threads that decode.
    pub workers: usize,
    /// Limits on the size of one file and its image.
    pub limits: Limits,
    /// Callback that returns the next step after a failure. The step is added to the failure's message.
    pub help: Help,
}

/// Callback that returns the next step after a failure to read or decode an image.
pub type Help = fn(&milenas_models::Error) -> Option<String>;

impl PipelineConfig {
    fn explain(&self, error: &milenas_models::Error) -> String {
        match (self.help)(error) {
            Some(help) => format!("{error}; help: {help}"),
            None => error.to_string(),
        }
    }
}

/// Input with its result.
#[derive(Clone, Debug)]
pub struct Classified<T> {
    /// Input that was classified.
    pub item: T,
    /// Answer of the network, or the reason why there is none.
    pub answer: std::result::Result<Answer, String>,
}

/// Input that can be read as an image.
pub trait ReadImage: Send {
    /// Reads and decodes the image. Adds the time of each stage to `times`.
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

/// Index of an item, the item, and its floats `[C, H, W]` or the reason why there are none.
type PreparedItem<T> = (usize, T, std::result::Result<Vec<f32>, String>);

/// Classifies every item of `items` and passes the results to `keep`, batch by batch and in the order of
/// `items`.
///
/// # Errors
/// Returns the first error of the runtime or of `keep`. The channel of `items` is then closed.
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
        let (send, prepared_items) = channel();
        for _ in 0..plan.workers.max(1) {
            let send = send.clone();
            scope.spawn(|| work(&feed, &window, &model.input, plan, times, send));
        }
        drop(send);
        // Closes the window on every exit, so that waiting workers end.
        let _closing = window.closing();
        in_batches(prepared_items, plan.batch, |batch| {
            let count = batch.len();
            keep(compute(model, times, batch)?)?;
            window.release(count);
            Ok(())
        })
    })
}

/// Prepares items until there are no more, or until the window closes.
fn work<T: ReadImage>(
    feed: &Mutex<(Receiver<T>, usize)>,
    window: &InFlightWindow,
    contract: &InputContract,
    plan: &PipelineConfig,
    times: &Times,
    send: Sender<PreparedItem<T>>,
) {
    loop {
        let (place, item) = {
            // The lock is poisoned only if another worker panicked while it held the lock.
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

/// Restores the order of prepared items. Passes a batch to `run` when it is full or has waited for
/// [`LINGER`].
fn in_batches<T>(
    prepared_items: Receiver<PreparedItem<T>>,
    size: usize,
    mut run: impl FnMut(Vec<PreparedItem<T>>) -> Result<()>,
) -> Result<()> {
    let (mut early, mut ready, mut next) = (BTreeMap::new(), Vec::new(), 0);
    let mut due: Option<Instant> = None;
    loop {
        let wait = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
        let ended = match prepared_items.recv_timeout(wait) {
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

fn compute<T>(model: &Classifier, times: &Times, batch: Vec<PreparedItem<T>>) -> Result<Vec<Classified<T>>> {
    let good: Vec<&[f32]> = batch.iter().filter_map(|(_, _, pixels)| pixels.as_deref().ok()).collect();
    let answers = match good.len() {
        0 => Vec::new(),
        count => {
            let images = good.concat();
            times.run.time(count, || model.runtime.run(&images, count))?
        }
    };
    let mut answers = answers.into_iter();
    let classified = |(_, item, pixels): PreparedItem<T>| {
        let answer = pixels.and_then(|_| answers.next().ok_or_else(|| "the runtime gave no answer".into()));
        Classified { item, answer }
    };
    Ok(batch.into_iter().map(classified).collect())
}
