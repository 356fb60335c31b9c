//! The head of a run's page: its numbers, what to type next, and what to worry about.

use std::fmt::Write;

use milenas_models::Cost;
use milenas_models::shell::{path, quoted};

use super::html::{escaped, facts, percent};
use super::read::RunSummary;
use super::{thousands, time};
use crate::next;
use crate::run::GENOTYPE;
use crate::strategy::COLLAPSE;

/// The head.
pub fn head(story: &RunSummary) -> String {
    let done = story.epochs.len();
    let mut list = match &story.judged {
        Some(judged) => vec![("architectures judged", judged.len().to_string())],
        None => vec![("epochs", format!("{done} of {}", story.planned()))],
    };
    if let Some(last) = story.epochs.last() {
        // What a search chose is seldom of its last epoch.
        let [accuracy, loss] = match story.is_search() {
            true => ["validation accuracy, last epoch", "training loss, last epoch"],
            false => ["test accuracy", "training loss"],
        };
        list.push((accuracy, percent(last.accuracy())));
        list.push((loss, format!("{:.3}", last.train_loss)));
    }
    if let Some(Cost { params, macs }) = story.cost() {
        let chosen = story.genotype.is_some();
        let name = if chosen { "parameters" } else { "parameters, last epoch" };
        list.push((name, thousands(params)));
        list.push(("MACs an image", thousands(macs)));
    }
    if let Some(scores) = &story.scores {
        list.push(("top-5", percent(scores.top5)));
    }
    list.extend(spent(story));
    let mut text = facts(&list);
    let when = match story.is_finished() {
        true => "Next",
        false => "It runs, or was stopped; this goes on with it",
    };
    let command = command(story);
    let asks = match story.source {
        None if command.contains(" --data ") => ", with the images' source for SRC",
        _ => "",
    };
    let _ = writeln!(text, "<p>{when}{asks}:</p>\n<pre tabindex=\"0\">{}</pre>", escaped(&command));
    text + &collapse(story)
}

/// What to type next.
fn command(story: &RunSummary) -> String {
    let run = path(&story.path);
    let source = story.source.as_deref().unwrap_or("SRC");
    let data = quoted(source);
    let device = story.device.as_ref().map(|device| format!(" --device {device}")).unwrap_or_default();
    match (story.is_finished(), story.is_search()) {
        (false, true) => format!("milenas-search run --data {data} --out {run} --resume{device}"),
        (false, false) => {
            let start = story.inherited.as_ref();
            let from = start.map(|start| format!(" --from-supernet {}", path(&start.from_supernet)));
            let from = from.unwrap_or_default();
            let genotype = path(&story.path.join(GENOTYPE));
            format!(
                "milenas-search train{from} --genotype {genotype} --data {data} --out {run} --resume{device}"
            )
        }
        (true, true) => next::train(&story.path, source),
        (true, false) => next::export(&story.path),
    }
}

/// A warning where the cell that is shown has too many skips.
fn collapse(story: &RunSummary) -> String {
    let descends = story.epochs.last().is_some_and(|epoch| epoch.skips.is_some());
    let skips = story.cells().filter(|_| descends).map_or(0, |genotype| genotype.normal.skips());
    if skips < COLLAPSE {
        return String::new();
    }
    format!(
        "<p class=\"note\">The derived normal cell has {skips} skip connections of 8 operations: differentiable searches \
         collapse this way. Train a larger genotype of <code>genotypes/</code>, or end earlier.</p>\n"
    )
}

/// What the run cost: time, pace and memory.
fn spent(story: &RunSummary) -> Vec<(&'static str, String)> {
    let mut list = Vec::new();
    if story.seconds > 0.0 {
        list.push(("time", time(story.seconds)));
    }
    if let Some(seconds) = story.epoch_seconds.filter(|&seconds| seconds > 0.0) {
        list.push(("an epoch", time(seconds)));
        if let Some(images) = story.epochs.last().and_then(|epoch| epoch.images) {
            list.push(("training images a second", format!("{:.0}", images as f64 / seconds)));
        }
    }
    if let Some(mib) = story.peak_mib {
        list.push(("memory at most", format!("{mib:.0} MiB")));
    }
    list
}
