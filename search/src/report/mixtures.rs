//! Section about the weights of the operations on each edge, over the epochs.

use std::fmt::Write;

use milenas_models::html::{escaped, table};

use super::cell;
use super::read::RunSummary;
use super::svg::{layers, legend};

/// Returns the section; empty without mixtures.
pub fn mixtures(story: &RunSummary) -> String {
    let mixtures: Vec<_> = story.epochs.iter().filter_map(|e| e.mixture.as_ref()).collect();
    let Some(last) = mixtures.last() else { return String::new() };
    let Ok(space) = story.config.search.space() else { return String::new() };
    let choices = space.choices();
    let Some(first) = choices.first() else { return String::new() };
    let names: Vec<String> = first.candidates.iter().map(|name| cell::short(name)).collect();
    let mut text = format!(
        "<h2>Mixtures over the epochs</h2>\n<p>Weight of each operation on each edge, from the first epoch to the last. The weights of an edge \
         add up to the full height.</p>\n{}",
        legend(names.iter().map(String::as_str))
    );
    let groups = choices.chunk_by(|a, b| a.group == b.group);
    for (group, choices) in groups.enumerate().take(last.len()) {
        let title = cell::title(choices[0].group);
        let _ = write!(text, "<h3>{title}</h3><div class=\"small\">");
        let mut numbers = Vec::new();
        for (index, choice) in choices.iter().enumerate() {
            let rows: Vec<&[f32]> = mixtures
                .iter()
                .filter_map(|m| m.get(group)?.get(index)?.get(..choice.candidates.len()))
                .collect();
            let (Some(first), Some(now)) = (rows.first(), rows.last()) else { continue };
            let edge = choice.name.clone();
            let best = (0..now.len()).max_by(|a, b| now[*a].total_cmp(&now[*b])).unwrap_or_default();
            let caption =
                format!("{edge}: {} {:.0}\u{a0}%", cell::short(&choice.candidates[best]), 100.0 * now[best]);
            let weights =
                first.iter().zip(*now).map(|(was, is)| format!("{:.1} ({:.1})", 100.0 * is, 100.0 * was));
            numbers.push(std::iter::once(edge).chain(weights).collect());
            let _ = write!(
                text,
                "<figure>{}<figcaption>{}</figcaption></figure>",
                layers(&caption, &rows),
                escaped(&caption)
            );
        }
        let head: Vec<&str> = std::iter::once("edge").chain(names.iter().map(String::as_str)).collect();
        let _ = writeln!(
            text,
            "</div>\n<details><summary>{title}: weights in % after the last epoch (after the first)</summary>\n{}</details>",
            table(&head, &numbers)
        );
    }
    text
}
