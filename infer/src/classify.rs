//! Decode ahead, run in batches, keep the order; a bad image costs itself and nothing else.

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use milenas_models::images::Sample;
use milenas_models::input::{InputContract, Limits, decode};
use milenas_models::{file, metrics::Ranked};
use rayon::prelude::*;

use crate::model::Classifier;
use crate::runtime::Runtime;
use crate::{Error, Result};

/// Batches that wait for the runtime.
const AHEAD: usize = 2;

/// One image and what became of it.
#[derive(Clone, Debug)]
pub struct Classified<T> {
    /// What was asked for.
    pub item: T,
    /// Its logits, or why there are none.
    pub logits: std::result::Result<Vec<f32>, String>,
}

fn prepared(
    image: milenas_models::Result<milenas_models::Image>,
    contract: &InputContract,
) -> milenas_models::Result<Vec<f32>> {
    let pixels = contract.prepare(&image?)?;
    let mut out = vec![0.0; contract.len()];
    contract.normalise(&pixels, &mut out);
    Ok(out)
}

/// Runs everything that `items` gives, and hands the results to `keep` in order.
///
/// # Errors
/// The first of `items`, of the runtime, or of `keep`.
fn run<T: Send + Sync>(
    model: &Classifier,
    items: impl Iterator<Item = Result<T>> + Send,
    read: impl Fn(&T) -> milenas_models::Result<milenas_models::Image> + Send + Sync,
    batch: usize,
    mut keep: impl FnMut(Classified<T>) -> Result<()>,
) -> Result<()> {
    let contract = &model.card.input;
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(AHEAD);
        scope.spawn(move || {
            let mut items = items.fuse();
            loop {
                let picked: Result<Vec<T>> = items.by_ref().take(batch).collect();
                let made = picked.map(|items| {
                    let image = |item: T| {
                        let pixels = prepared(read(&item), contract).map_err(|e| e.to_string());
                        (item, pixels)
                    };
                    items.into_par_iter().map(image).collect::<Vec<_>>()
                });
                let last = made.as_ref().map_or(true, Vec::is_empty);
                // A closed channel means that the reader stopped at an error.
                if send.send(made).is_err() || last {
                    break;
                }
            }
        });
        for made in receive {
            let made = made?;
            let good: Vec<&Vec<f32>> = made.iter().filter_map(|(_, pixels)| pixels.as_ref().ok()).collect();
            let images: Vec<f32> = good.iter().flat_map(|pixels| pixels.iter().copied()).collect();
            let logits = if good.is_empty() { Vec::new() } else { model.runtime.run(&images, good.len())? };
            let mut logits = logits.into_iter();
            for (item, pixels) in made {
                let logits = pixels.map(|_| logits.next().unwrap_or_default());
                keep(Classified { item, logits })?;
            }
        }
        Ok(())
    })
}

/// Classifies image files.
pub fn files(
    model: &Classifier,
    paths: impl Iterator<Item = Result<PathBuf>> + Send,
    batch: usize,
    keep: impl FnMut(Classified<PathBuf>) -> Result<()>,
) -> Result<()> {
    let limits = Limits::default();
    let read = |path: &PathBuf| decode(&file::read(path, limits.max_file)?, &limits);
    run(model, paths, read, batch, keep)
}

/// Ranks the labels of labelled images; also the images that could not be read, with the reasons.
pub fn samples(model: &Classifier, samples: &[Sample], batch: usize) -> Result<(Vec<Ranked>, Vec<String>)> {
    let limits = Limits::default();
    let (mut ranked, mut bad) = (Vec::new(), Vec::new());
    let read = |sample: &&Sample| sample.image(&limits);
    run(model, samples.iter().map(Ok::<_, Error>), read, batch, |one| {
        match one.logits {
            Ok(logits) => ranked.push(Ranked::new(&logits, one.item.class())),
            Err(reason) => bad.push(reason),
        }
        Ok(())
    })?;
    Ok((ranked, bad))
}
