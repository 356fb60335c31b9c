//! What the commands do: read, run, and tell.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs::File;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use milenas_infer::Error;
use milenas_infer::classify::{files, samples};
use milenas_infer::inputs::Inputs;
use milenas_infer::model::Classifier;
use milenas_infer::output::Csv;
use milenas_models::images::Source;
use milenas_models::metrics::Scores;

use crate::cli::{Cli, Command};

/// Runs what was typed. Returns whether every image could be read.
pub fn execute(cli: Cli) -> Result<bool> {
    match cli.command {
        Command::Classify { model, inputs, output, batch } => {
            classify(&model, &inputs, output.as_deref(), batch as usize)
        }
        Command::Evaluate { model, data, batch, json } => evaluate(&model, &data, batch as usize, json),
    }
}

fn classify(model: &Path, inputs: &[PathBuf], output: Option<&Path>, batch: usize) -> Result<bool> {
    let model = Classifier::load(model)?;
    let inputs = Inputs::new(inputs)?;
    let to: Box<dyn Write> = match output {
        Some(path) => Box::new(File::create(path).with_context(|| path.display().to_string())?),
        None => Box::new(stdout().lock()),
    };
    let mut csv = Csv::new(to, &model.card.labels)?;
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} images, {per_sec}") {
        bar.set_style(style);
    }
    files(&model, inputs, batch, |one| {
        bar.inc(1);
        csv.write(&one)
    })?;
    bar.finish_and_clear();
    let (images, failed) = (csv.images, csv.failed);
    match failed {
        0 => eprintln!("{images} images classified"),
        _ => eprintln!("{images} images, {failed} of them could not be read: see the column `error`"),
    }
    Ok(failed == 0)
}

fn evaluate(path: &Path, source: &str, batch: usize, json: bool) -> Result<bool> {
    let model = Classifier::load(path)?;
    let source = Source::parse(source)?;
    let seed = model.card.record.get("seed").and_then(|seed| seed.parse().ok()).unwrap_or_default();
    let dataset = source.open(seed)?;
    if dataset.classes != model.card.labels {
        let (found, expected) = (dataset.classes, model.card.labels);
        return Err(Error::Classes { source_name: source.to_string(), found, expected }.into());
    }
    let (ranked, bad) = samples(&model, &dataset.test, batch)?;
    bad.iter().for_each(|reason| eprintln!("left out: {reason}"));
    let scores = Scores::new(&ranked, &model.card.labels);
    match json {
        true => println!("{}", serde_json::to_string(&scores)?),
        false => print!("{scores}"),
    }
    Ok(bad.is_empty())
}
