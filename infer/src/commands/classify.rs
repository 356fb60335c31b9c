//! Label images.

use std::fs::File;
use std::io::{Write, stdout};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::spawn;

use anyhow::{Context, Result, anyhow, bail};
use milenas_infer::Error;
use milenas_infer::answer::{Meaning, Score, View};
use milenas_infer::inputs::{Inputs, Item};
use milenas_infer::model::{Classifier, Options};
use milenas_infer::output::{self, Sink};
use milenas_infer::pipeline::{Classified, Times, run};
use milenas_infer::resume::{Done, reopen};
use milenas_infer::shard::{Receipt, Shard};

use crate::cli::{Classify, OnError, Part};
use crate::progress::Progress;

/// Names that wait to be looked at.
const NAMES: usize = 1024;

pub(super) fn execute(asked: &Classify) -> Result<bool> {
    asked.format().available()?;
    let options =
        Options { features: asked.features, ..super::options(&asked.runtime, Some(&asked.recipe))? };
    let model = super::load(&asked.model, &options)?;
    let separator = if asked.null { 0 } else { b'\n' };
    let inputs = Inputs::new(&asked.inputs, asked.list.as_deref(), separator)?;
    let view = view(asked, &model)?;
    let shard = shard(asked)?;
    let (to, done, fresh) = open(asked, &view)?;
    let before = (done.rows, done.failed);
    let mut sink = output::open(asked.format(), to, &view, fresh)?;
    if before.0 > 0 {
        eprintln!("{} images have a row already", before.0);
    }

    let mut progress = Progress::new(&inputs, shard, before.0);
    let times = Times::default();
    let mut counts = Counts { images: before.0, failed: before.1 };
    let seen = Arc::new(AtomicUsize::new(0));
    let items = list(inputs, done, shard, seen.clone());
    run(&model, &super::plan(asked.sizes), &times, items, |batch| {
        progress.advance(batch.len());
        times.write.time(batch.len(), || {
            batch.iter().try_for_each(|one| write(one, asked.on_error, &view, &mut *sink, &mut counts))?;
            sink.flush()
        })
    })?;
    sink.close()?;
    progress.finish();
    if asked.verbose {
        eprint!("{times}");
    }
    let Counts { images, failed } = counts;
    if let (Some(shard), Some(path)) = (shard, &asked.output) {
        // Every row was counted by the lister before it came here, and it ended before the run did.
        let inputs = seen.load(Ordering::Acquire);
        Receipt { shard, inputs, rows: images, failed }.write(path)?;
    }
    match (failed, asked.on_error) {
        (0, _) => eprintln!("{images} images classified"),
        (_, OnError::Skip) => {
            eprintln!("{images} images, {failed} of them could not be read and were skipped")
        }
        (_, _) => {
            eprintln!("{images} images, {failed} of them could not be read: see `error` in the results")
        }
    }
    Ok(failed == 0)
}

fn view(asked: &Classify, model: &Classifier) -> Result<View> {
    let score = Score::from(asked.score);
    if score == Score::Logit && model.meaning == Meaning::Probabilities {
        bail!("{} ends in a softmax, it gives no logits. Help: --score probability", asked.model.display());
    }
    Ok(View {
        labels: model.labels.clone(),
        top_k: (asked.top_k as usize).min(model.labels.len()),
        threshold: asked.threshold,
        score,
        meaning: model.meaning,
        all_scores: asked.all_scores,
        features: model.features,
    })
}

/// Where rows go, what has one, and whether the output is empty so far.
fn open(asked: &Classify, view: &View) -> Result<(Box<dyn Write + Send>, Done, bool)> {
    Ok(match &asked.output {
        None => (Box::new(stdout()), Done::default(), true),
        Some(path) if asked.resume => {
            let (file, done, fresh) = reopen(path, asked.format(), view)?;
            (Box::new(file), done, fresh)
        }
        Some(path) => {
            let file = File::create(path).with_context(|| path.display().to_string())?;
            (Box::new(file), Done::default(), true)
        }
    })
}

/// The part that was asked for; a receipt of an earlier run of it goes, since it is not true any more.
fn shard(asked: &Classify) -> Result<Option<Shard>> {
    let shard = match asked.shard {
        None => return Ok(None),
        Some(Part::Named(shard)) => shard,
        Some(Part::Environment) => {
            let read = |name: &str| std::env::var(name).ok();
            Shard::from_environment(&read).map_err(|problem| anyhow!("--shard auto: {problem}"))?
        }
    };
    if asked.on_error == OnError::Skip || !asked.format().grows() {
        bail!(
            "`merge` cannot check --shard with --on-error skip, text or Parquet. Help: record, csv or jsonl"
        );
    }
    if let Some(path) = asked.output.as_deref().map(Receipt::path).filter(|path| path.exists()) {
        std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
    }
    Ok(Some(shard))
}

/// Names the inputs from a thread of its own, which ends with the program if nobody listens any more. `seen` counts all
/// of them, also those of other shards.
pub(super) fn list(
    inputs: Inputs,
    mut done: Done,
    shard: Option<Shard>,
    seen: Arc<AtomicUsize>,
) -> Receiver<Item> {
    let (send, items) = sync_channel(NAMES);
    spawn(move || {
        let _ = inputs.walk(&mut |item| {
            let place = seen.fetch_add(1, Ordering::AcqRel);
            let others = shard.is_some_and(|shard| !shard.holds(place));
            match others || done.claim(&item.name()) || send.send(item).is_ok() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
    });
    items
}

struct Counts {
    images: usize,
    failed: usize,
}

fn write(
    one: &Classified<Item>,
    on_error: OnError,
    view: &View,
    sink: &mut dyn Sink,
    counts: &mut Counts,
) -> milenas_infer::Result<()> {
    let path = one.item.name();
    counts.images += 1;
    let told = one.answer.as_ref().map_err(Clone::clone).and_then(|answer| view.tell(answer));
    counts.failed += usize::from(told.is_err());
    match (told, on_error) {
        (Err(reason), OnError::Skip) => {
            eprintln!("{path}: {reason}");
            Ok(())
        }
        (Err(reason), OnError::Fail) => Err(Error::Image { path, reason }),
        (told, _) => sink.write(&path, told.as_ref().map_err(String::as_str)),
    }
}
