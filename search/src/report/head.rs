//! Head of a run's report: key figures, the next step, and warnings.

use std::fmt::Write;

use milenas_models::Cost;
use milenas_models::html::{escaped, facts, percent};

use super::read::RunSummary;
use super::{thousands, time};
use crate::next::{NextStep, StepText, UNKNOWN_SOURCE};
use crate::strategy::COLLAPSE;

/// Returns the head of the report, with the next step as worded by `step_text`.
pub fn head(story: &RunSummary, step_text: StepText) -> String {
    let done = story.epochs.len();
    let mut list = match &story.evaluated {
        Some(evaluated) => vec![("architectures evaluated", evaluated.len().to_string())],
        None => vec![("epochs", format!("{done} of {}", story.planned()))],
    };
    if let Some(last) = story.epochs.last() {
        // The architecture that a search chose is seldom that of the last epoch.
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
        list.push(("MACs per image", thousands(macs)));
    }
    if let Some(scores) = &story.scores {
        list.push(("top-5", percent(scores.top5)));
    }
    list.extend(spent(story));
    let mut text = facts(&list);
    let when = match story.is_finished() {
        true => "Next",
        false => "The run is not finished. To resume it after a stop",
    };
    let step = next_step(story);
    let asks = match step.lacks_source() {
        true => format!(", with the image source in place of {UNKNOWN_SOURCE}"),
        false => String::new(),
    };
    let _ = writeln!(text, "<p>{when}{asks}:</p>\n<pre tabindex=\"0\">{}</pre>", escaped(&step_text(&step)));
    text + &collapse(story)
}

/// Returns the step that follows a finished run, or resumes an unfinished one.
pub fn next_step(story: &RunSummary) -> NextStep {
    let (run, data, device) = (story.path.clone(), story.source.clone(), story.device.clone());
    match (story.is_finished(), story.is_search()) {
        (false, true) => NextStep::ResumeSearch { run, data, device },
        (false, false) => {
            let from_supernet = story.inherited.as_ref().map(|start| start.from_supernet.clone());
            NextStep::ResumeTraining { run, from_supernet, data, device }
        }
        (true, true) => NextStep::Train { search: run, data },
        (true, false) => NextStep::Export { training: run },
    }
}

/// Returns a warning if the shown cell has too many skip connections.
fn collapse(story: &RunSummary) -> String {
    let by_gradients = story.epochs.last().is_some_and(|epoch| epoch.skips.is_some());
    let skips = story.cells().filter(|_| by_gradients).map_or(0, |genotype| genotype.skips());
    if skips < COLLAPSE {
        return String::new();
    }
    format!(
        "<p class=\"note\">The derived normal cell has {skips} skip connections of 8 operations: differentiable search can \
         collapse this way. Train a larger genotype of <code>genotypes/</code>, or stop earlier.</p>\n"
    )
}

/// Returns the cost of the run: time, rate and memory.
fn spent(story: &RunSummary) -> Vec<(&'static str, String)> {
    let mut list = Vec::new();
    if story.seconds > 0.0 {
        list.push(("time", time(story.seconds)));
    }
    if let Some(seconds) = story.epoch_seconds.filter(|&seconds| seconds > 0.0) {
        list.push(("time per epoch", time(seconds)));
        if let Some(images) = story.epochs.last().and_then(|epoch| epoch.images) {
            list.push(("training images per second", format!("{:.0}", images as f64 / seconds)));
        }
    }
    if let Some(mib) = story.peak_mib {
        list.push(("peak memory", format!("{mib:.0} MiB")));
    }
    list
}
