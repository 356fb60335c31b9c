//! Implementation of the commands, and their printed results.

mod bench;
mod classify;
mod evaluate;
mod inspect;
mod merge;

use std::fmt::Display;
use std::path::Path;
use std::thread::available_parallelism;

use crate::console::{self, note};
use anyhow::{Result, anyhow, bail};
use milenas_infer::Error;
use milenas_infer::model::{Classifier, ClassifierOptions};
use milenas_infer::pipeline::PipelineConfig;
use milenas_infer::recipe::{self, ResizeRule};
use milenas_infer::runtime::RuntimeConfig;
use milenas_models::file;
use milenas_models::input::{self, Limits};

use crate::cli::{Cli, Command, ImageLimits, RecipeArgs, RuntimeArg, RuntimeArgs, SizeArgs};

/// Size limit of a file with labels, in bytes.
const MAX_LABELS: u64 = 16 << 20;

/// Runs a command. Returns whether every image could be read.
pub fn execute(cli: Cli) -> Result<bool> {
    match cli.command {
        Command::Classify(asked) => classify::execute(&asked),
        Command::Evaluate(asked) => evaluate::execute(&asked),
        Command::Merge(asked) => merge::execute(&asked),
        Command::Bench(asked) => bench::execute(&asked),
        Command::Inspect(asked) => inspect::execute(&asked),
    }
}

/// Writes to standard output.
fn print(text: impl Display) -> milenas_infer::Result<()> {
    console::print(text).map_err(Error::Output)
}

/// Loads a model and prints its notes on the preparation of inputs to standard error.
fn load(path: &Path, options: &ClassifierOptions) -> Result<Classifier> {
    let model = Classifier::load(path, options)?;
    model.notes.iter().for_each(|text| note(format_args!("note: {text}")));
    Ok(model)
}

/// Converts flags to loading options. `threads` of 0 means all cores.
fn options(runtime: &RuntimeArgs, recipe: Option<&RecipeArgs>, threads: usize) -> Result<ClassifierOptions> {
    if runtime.ort_lib.is_some() && !matches!(runtime.runtime, RuntimeArg::Ort) {
        bail!("--ort-lib is ONNX Runtime's library. help: add --runtime ort");
    }
    let given = match recipe {
        None => recipe::Recipe::default(),
        Some(given) => recipe::Recipe {
            labels: given.labels.as_deref().map(labels).transpose()?,
            mean: given.mean.clone(),
            std: given.std.clone(),
            resize: given.resize.or(given.crop_fraction.map(ResizeRule::CropFraction)),
            filter: given.filter.map(Into::into),
            order: given.channel_order.map(Into::into),
            orientation: given.exif.map(Into::into),
            outputs: given.outputs_are.map(Into::into),
            ..recipe::Recipe::default()
        },
    };
    let choice = RuntimeConfig {
        kind: runtime.runtime.into(),
        precision: runtime.precision.into(),
        ort_library: runtime.ort_lib.clone(),
        threads,
    };
    let recipe = recipe::Recipe {
        size: runtime.size,
        layout: runtime.layout.map(Into::into),
        output: runtime.output_name.clone(),
        ..given
    };
    Ok(ClassifierOptions { runtime: choice, recipe, features: false })
}

fn labels(path: &Path) -> Result<Vec<String>> {
    let bytes = file::read(path, MAX_LABELS)?;
    recipe::labels(&bytes).map_err(|problem| anyhow!("--labels {}: {problem}", path.display()))
}

/// Starts the thread pool with the requested number of threads. The default, 0, is all cores of this process.
fn threads(sizes: SizeArgs) -> Result<usize> {
    let threads = sizes.threads.map_or(0, |n| n as usize);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    Ok(threads)
}

fn plan(sizes: SizeArgs, asked: ImageLimits) -> PipelineConfig {
    let cores = available_parallelism().map_or(1, usize::from);
    let workers = sizes.workers.map_or(cores, |n| n as usize);
    let mut limits = Limits::default();
    if let Some(pixels) = asked.max_pixels {
        limits = limits.with_max_pixels(pixels);
    }
    limits.max_expansion = asked.max_ratio.unwrap_or(limits.max_expansion);
    PipelineConfig { batch: sizes.batch as usize, workers, limits, help }
}

/// Returns the flag that accepts an image which a limit refused.
fn help(error: &milenas_models::Error) -> Option<String> {
    let milenas_models::Error::Limit { what, found, .. } = error else { return None };
    match *what {
        input::PIXELS => Some(format!("--max-pixels {found}")),
        input::EXPANSION => Some(format!("--max-ratio {found}, if the file can be trusted")),
        _ => None,
    }
}
