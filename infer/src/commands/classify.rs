//! Label images.

use std::fs::File;
use std::io::{Write, stdout};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::spawn;

use anyhow::{Context, Result, bail};
use milenas_infer::Error;
use milenas_infer::answer::{Meaning, Score, View};
use milenas_infer::inputs::{Inputs, Item};
use milenas_infer::model::Classifier;
use milenas_infer::output::{self, Sink};
use milenas_infer::pipeline::{Classified, Times, run};
use milenas_infer::resume::{Done, reopen};

use crate::cli::{Classify, OnError};
use crate::progress::Progress;

/// Names that wait to be looked at.
const NAMES: usize = 1024;

pub(super) fn execute(asked: &Classify) -> Result<bool> {
    let model = Classifier::load(&asked.model, asked.features)?;
    let separator = if asked.null { 0 } else { b'\n' };
    let inputs = Inputs::new(&asked.inputs, asked.list.as_deref(), separator)?;
    let view = view(asked, &model)?;
    let (to, done, fresh) = open(asked, &view)?;
    let before = (done.rows, done.failed);
    let mut sink = output::open(asked.format(), to, &view, fresh)?;
    if before.0 > 0 {
        eprintln!("{} images have a row already", before.0);
    }

    let mut progress = Progress::new(&inputs, before.0);
    let times = Times::default();
    let mut counts = Counts { images: before.0, failed: before.1 };
    run(&model, &super::plan(asked.sizes), &times, list(inputs, done), |batch| {
        progress.advance(batch.len());
        times.write.time(batch.len(), || {
            batch.iter().try_for_each(|one| write(one, asked.on_error, &view, &mut *sink, &mut counts))?;
            sink.flush()
        })
    })?;
    sink.flush()?;
    progress.finish();
    if asked.verbose {
        eprint!("{times}");
    }
    let Counts { images, failed } = counts;
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
fn open(asked: &Classify, view: &View) -> Result<(Box<dyn Write>, Done, bool)> {
    Ok(match &asked.output {
        None => (Box::new(stdout().lock()), Done::default(), true),
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

/// Names the inputs from a thread of its own, which ends with the program if nobody listens any more.
fn list(inputs: Inputs, mut done: Done) -> Receiver<Item> {
    let (send, items) = sync_channel(NAMES);
    spawn(move || {
        let _ = inputs.walk(&mut |item| match done.claim(&item.name()) || send.send(item).is_ok() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
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
