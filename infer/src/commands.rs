//! What the commands do: read, run, and tell.

mod bench;
mod classify;
mod evaluate;
mod merge;

use std::fmt::Display;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};
use milenas_infer::Error;
use milenas_infer::model::{Classifier, Options};
use milenas_infer::pipeline::Plan;
use milenas_infer::recipe;
use milenas_infer::runtime::Choice;
use milenas_models::console::{self, note};
use milenas_models::input::{self, Limits};

use crate::cli::{Cli, Command, ImageLimits, Kind, Recipe, Runtime, Sizes};

/// Runs what was typed. Returns whether every image could be read.
pub fn execute(cli: Cli) -> Result<bool> {
    match cli.command {
        Command::Classify(asked) => classify::execute(&asked),
        Command::Evaluate(asked) => evaluate::execute(&asked),
        Command::Merge(asked) => merge::execute(&asked),
        Command::Bench(asked) => bench::execute(&asked),
    }
}

/// To standard output.
fn print(text: impl Display) -> milenas_infer::Result<()> {
    console::print(text).map_err(Error::Output)
}

/// A model, and on standard error what the user should know of how it is fed.
fn load(path: &Path, options: &Options) -> Result<Classifier> {
    let model = Classifier::load(path, options)?;
    model.notes.iter().for_each(|text| note(format_args!("note: {text}")));
    Ok(model)
}

fn options(runtime: &Runtime, recipe: Option<&Recipe>) -> Result<Options> {
    if runtime.ort_lib.is_some() && !matches!(runtime.runtime, Kind::Ort) {
        bail!("--ort-lib is ONNX Runtime's library. Help: add --runtime ort");
    }
    let said = match recipe {
        None => recipe::Recipe::default(),
        Some(said) => recipe::Recipe {
            labels: said.labels.as_deref().map(labels).transpose()?,
            size: None,
            mean: said.mean.clone(),
            std: said.std.clone(),
            resize: said.resize,
            outputs: said.outputs_are.map(Into::into),
        },
    };
    let choice = Choice {
        kind: runtime.runtime.into(),
        precision: runtime.precision.into(),
        ort_library: runtime.ort_lib.clone(),
        threads: 0,
    };
    let recipe = recipe::Recipe { size: runtime.size, ..said };
    Ok(Options { runtime: choice, recipe, features: false })
}

/// One a line; a last line may end or not.
fn labels(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(|line| line.trim().to_string()).collect())
}

fn plan(sizes: Sizes, asked: ImageLimits) -> Plan {
    let cores = available_parallelism().map_or(1, usize::from);
    let workers = sizes.workers.map_or(cores, |n| n as usize);
    let mut limits = Limits::default();
    if let Some(pixels) = asked.max_pixels {
        limits = limits.with_max_pixels(pixels);
    }
    limits.max_expansion = asked.max_ratio.unwrap_or(limits.max_expansion);
    Plan { batch: sizes.batch as usize, workers, limits, help }
}

/// The option that lets an image through which a limit refused.
fn help(error: &milenas_models::Error) -> Option<String> {
    let milenas_models::Error::Limit { what, found, .. } = error else { return None };
    match *what {
        input::PIXELS => Some(format!("--max-pixels {found}")),
        input::EXPANSION => Some(format!("--max-ratio {found}, if the file can be trusted")),
        _ => None,
    }
}
