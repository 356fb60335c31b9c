//! Classification of images, with one row per image.

use std::io::{Write, stdout};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::spawn;

use crate::console::note;
use anyhow::{Result, anyhow, bail};
use milenas_infer::Error;
use milenas_infer::answer::{AnswerOptions, OutputMeaning, Score};
use milenas_infer::fingerprint::Fingerprint;
use milenas_infer::inputs::{Inputs, Item};
use milenas_infer::model::{Classifier, ClassifierOptions};
use milenas_infer::output::{self, RowFormat, Sink};
use milenas_infer::pipeline::{Classified, Times, run};
use milenas_infer::resume::{FinishedRows, reopen};
use milenas_infer::shard::{Census, Receipt, Shard};
use milenas_models::file;
use milenas_models::images::Skipped;

use crate::cli::{Classify, OnError, ShardArg, format_of};
use crate::progress::RunProgress;

/// Largest number of listed items that wait for a worker.
const NAMES: usize = 1024;

pub(super) fn execute(asked: &Classify) -> Result<bool> {
    let format = format(asked)?;
    check_output(asked)?;
    let shard = shard(asked, format)?;
    let options = ClassifierOptions {
        features: asked.features,
        ..super::options(&asked.runtime, Some(&asked.recipe), super::threads(asked.sizes)?)?
    };
    let model = super::load(&asked.model, &options)?;
    let separator = if asked.null { 0 } else { b'\n' };
    let inputs = Inputs::new(&asked.inputs, asked.list.as_deref(), separator)?.without(outputs(asked));
    let view = view(asked, &model)?;
    let made = Fingerprint::new(&model, &options, &view);
    let (to, done, fresh) = open(asked, format, &view, &made)?;
    let before = (done.rows, done.failed);
    let mut sink = output::open(format, to, &view, fresh)?;
    if before.0 > 0 {
        note(format_args!("{} images have a row already", before.0));
    }

    let mut progress = RunProgress::new(&inputs, shard, before.0);
    let times = Times::default();
    let mut counts = RowCounts { images: before.0, failed: before.1 };
    let Listed { items, census, skipped } = list(inputs, done, shard);
    run(&model, &super::plan(asked.sizes, asked.limits), &times, items, |batch| {
        progress.advance(batch.len());
        times.write.time(batch.len(), || {
            batch.iter().try_for_each(|one| write(one, asked.on_error, &view, &mut *sink, &mut counts))?;
            sink.flush()
        })
    })?;
    sink.close()?;
    progress.finish();
    if asked.verbose {
        note(times.to_string().trim_end());
    }
    if let Some(text) = skipped.lock().unwrap_or_else(PoisonError::into_inner).note() {
        note(format_args!("note: {text}"));
    }
    let RowCounts { images, failed } = counts;
    if let Some(path) = kept(asked) {
        if let Some(shard) = shard {
            // The lister counted every row's input before the row was written, and it ended before the run
            // did.
            let census = census.lock().unwrap_or_else(PoisonError::into_inner);
            let (inputs, names) = (census.count(), census.names());
            Receipt { shard, inputs, names, made, rows: images, failed }.write(path)?;
        }
        Fingerprint::remove(path)?;
    }
    match (failed, asked.on_error) {
        (0, _) => note(format_args!("{images} images classified")),
        (_, OnError::Skip) => {
            note(format_args!("{images} images, {failed} of them could not be read and were skipped"))
        }
        (_, _) => note(format_args!(
            "{images} images, {failed} of them could not be read: see `error` in the results"
        )),
    }
    Ok(failed == 0)
}

/// Returns the files that the run writes. They are skipped as inputs.
fn outputs(asked: &Classify) -> Vec<PathBuf> {
    let of = |output: &PathBuf| [output.clone(), Fingerprint::path(output), Receipt::path(output)];
    asked.output.iter().flat_map(of).collect()
}

fn format(asked: &Classify) -> Result<RowFormat> {
    let format = format_of(asked.format, asked.output.as_deref())?;
    format.available()?;
    if format == RowFormat::Text && (asked.features || asked.all_scores) {
        bail!("--format text cannot write --features or --all-scores. help: --format csv or jsonl");
    }
    Ok(format)
}

/// Refuses outputs that would overwrite an input. Files inside folders and lists are not compared: there are
/// too many.
fn check_output(asked: &Classify) -> Result<()> {
    let Some(output) = &asked.output else { return Ok(()) };
    let beside = [("OUTPUT.run", Fingerprint::path(output)), ("OUTPUT.done", Receipt::path(output))];
    let mut outputs = vec![("-o", output.as_path())];
    outputs.extend(beside.iter().map(|(what, path)| (*what, path.as_path())));
    let mut inputs = vec![("the model", asked.model.as_path())];
    inputs.extend(asked.recipe.labels.as_deref().map(|path| ("--labels", path)));
    inputs.extend(asked.list.as_deref().map(|path| ("--list", path)));
    inputs.extend(asked.inputs.iter().map(|path| ("an input", path.as_path())));
    Ok(file::check_outputs(&outputs, &inputs)?)
}

fn view(asked: &Classify, model: &Classifier) -> Result<AnswerOptions> {
    let score = Score::from(asked.score);
    if score == Score::Logit && model.meaning != OutputMeaning::Logits {
        bail!("{} outputs probabilities, expected logits. help: --score probability", asked.model.display());
    }
    Ok(AnswerOptions {
        labels: model.labels.clone(),
        top_k: (asked.top_k as usize).min(model.labels.len()),
        threshold: asked.threshold,
        score,
        meaning: model.meaning,
        all_scores: asked.all_scores,
        features: model.features,
    })
}

/// Opens the output. Returns its writer, the finished rows, and whether the output is still empty. Writes the
/// fingerprint of the run beside the output. Removes the receipt of an earlier run, which is no longer valid.
fn open(
    asked: &Classify,
    format: RowFormat,
    view: &AnswerOptions,
    made: &Fingerprint,
) -> Result<(Box<dyn Write + Send>, FinishedRows, bool)> {
    let Some(path) = &asked.output else { return Ok((Box::new(stdout()), FinishedRows::default(), true)) };
    let (to, done, fresh) = match asked.resume {
        true => {
            check_made(path, made)?;
            reopen(path, format, view)?
        }
        false => (file::create(path)?, FinishedRows::default(), true),
    };
    if let Some(path) = kept(asked) {
        if Fingerprint::read(path).ok().flatten().as_ref() != Some(made)
            && let Err(problem) = made.write(path)
        {
            note(format_args!("note: {problem}: --resume cannot check that the rows are from this model"));
        }
        Receipt::remove(path)?;
    }
    Ok((Box::new(to), done, fresh))
}

/// Returns the path of the output if it is a file, so that other files can be written beside it.
fn kept(asked: &Classify) -> Option<&Path> {
    asked.output.as_deref().filter(|path| !file::is_special(path))
}

/// Refuses to resume a run whose rows have another fingerprint. A finished run without shards has no
/// fingerprint and is not checked.
fn check_made(output: &Path, made: &Fingerprint) -> Result<()> {
    if !output.metadata().is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let receipt = Receipt::path(output);
    let refused = |problem: String| Error::Resume { path: output.into(), problem };
    let before = match Fingerprint::read(output)? {
        None if receipt.exists() => {
            let unknown = |_| refused(format!("its receipt {} cannot be read, remove it", receipt.display()));
            Some(Receipt::read(output).map_err(unknown)?.made)
        }
        found => found,
    };
    match before.and_then(|before| before.difference(made)) {
        Some(problem) => Err(refused(format!("of its rows, {problem}")).into()),
        None => Ok(()),
    }
}

/// Returns the requested shard.
fn shard(asked: &Classify, format: RowFormat) -> Result<Option<Shard>> {
    let shard = match asked.shard {
        None => return Ok(None),
        Some(ShardArg::Named(shard)) => shard,
        Some(ShardArg::Environment) => {
            let read = |name: &str| std::env::var(name).ok();
            Shard::from_environment(&read).map_err(|problem| anyhow!("--shard auto: {problem}"))?
        }
    };
    if asked.on_error == OnError::Skip || !format.grows() {
        bail!(
            "`merge` cannot check --shard with --on-error skip, text or Parquet. help: record, csv or jsonl"
        );
    }
    Ok(Some(shard))
}

/// Inputs as they are listed. `census` and `skipped` are complete when `items` has ended.
pub(super) struct Listed {
    pub(super) items: Receiver<Item>,
    /// Count and names of all inputs, including those of other shards.
    census: Arc<Mutex<Census>>,
    pub(super) skipped: Arc<Mutex<Skipped>>,
}

/// Lists the inputs on a separate thread. The thread ends early if the receiver is dropped.
pub(super) fn list(inputs: Inputs, mut done: FinishedRows, shard: Option<Shard>) -> Listed {
    let (send, items) = sync_channel(NAMES);
    let (census, skipped) =
        (Arc::new(Mutex::new(Census::default())), Arc::new(Mutex::new(Skipped::default())));
    let (seen, counted) = (census.clone(), skipped.clone());
    spawn(move || {
        let mut found = Skipped::default();
        let _ = inputs.walk(&mut found, &mut |item| {
            let name = item.name();
            let place = seen.lock().unwrap_or_else(PoisonError::into_inner).add(&name);
            let others = shard.is_some_and(|shard| !shard.holds(place));
            match others || done.claim(&name) || send.send(item).is_ok() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        *counted.lock().unwrap_or_else(PoisonError::into_inner) = found;
        drop(send);
    });
    Listed { items, census, skipped }
}

struct RowCounts {
    images: usize,
    failed: usize,
}

fn write(
    one: &Classified<Item>,
    on_error: OnError,
    view: &AnswerOptions,
    sink: &mut dyn Sink,
    counts: &mut RowCounts,
) -> milenas_infer::Result<()> {
    let path = one.item.name();
    counts.images += 1;
    let predictions = one.answer.as_ref().map_err(Clone::clone).and_then(|answer| view.select(answer));
    counts.failed += usize::from(predictions.is_err());
    match (predictions, on_error) {
        (Err(reason), OnError::Skip) => {
            note(format_args!("{path}: {reason}"));
            Ok(())
        }
        (Err(reason), OnError::Fail) => Err(Error::Image { path, reason }),
        (predictions, _) => sink.write(&path, predictions.as_ref().map_err(String::as_str)),
    }
}
