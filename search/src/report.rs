//! HTML reports: `report.html` of a run, written while it runs, and a report that compares several runs.

mod cell;
mod evaluated;
mod groups;
mod head;
mod mixtures;
mod read;
mod several;
mod svg;

use std::path::Path;

use milenas_models::html::{self, HtmlReport, escaped, figure, percent, table};
use milenas_models::metrics::Scores;
use milenas_models::{Genotype, Primitive, file};

use crate::Result;
use crate::next::StepText;
use head::head;
use mixtures::mixtures;
pub use read::runs;
use read::{EpochRow, RunSummary};
use several::several;
use svg::{Series, lines, points};

/// File name of the report in a run folder.
pub const REPORT: &str = "report.html";

/// Rules for charts. Operations have the colours of their columns in alpha.
const STYLE: &str = include_str!("report/charts.css");

/// Seconds after which the browser reloads the report of an unfinished run.
const RELOAD: u32 = 30;

/// Writes the report of a run into its folder, with the next step as worded by `text`.
///
/// # Errors
/// Fails for a folder without a run, and for a report that cannot be written.
pub fn write(run: &Path, text: StepText) -> Result<()> {
    Ok(file::write(&run.join(REPORT), page_of(&[run], text)?.as_bytes())?)
}

/// Returns the HTML report of one run, with the next step as worded by `text`, or the report that compares
/// several runs.
///
/// # Errors
/// Fails for a folder without a run.
pub fn page_of(runs: &[impl AsRef<Path>], text: StepText) -> Result<String> {
    let stories = runs.iter().map(|run| RunSummary::read(run.as_ref())).collect::<Result<Vec<_>>>()?;
    Ok(match &stories[..] {
        [story] => one(story, text),
        stories => several(stories),
    })
}

fn one(story: &RunSummary, text: StepText) -> String {
    let kind = if story.is_search() { "Search" } else { "Training" };
    let mut body = head(story, text);
    if !story.epochs.is_empty() {
        body.push_str("<h2>Curves</h2>\n<div class=\"grid curves\">\n");
        body.push_str(&curves(story));
        body.push_str("</div>\n");
        body.push_str(&epochs(story));
    }
    body.push_str(&evaluated::evaluated(story));
    if let Some(genotype) = story.cells() {
        body.push_str("<h2>Cells</h2>\n");
        body.push_str(&cells(genotype));
    }
    body.push_str(&sizes(story));
    body.push_str(&mixtures(story));
    if let Some(scores) = &story.scores {
        body.push_str(&confusion(scores));
    }
    body.push_str(&configuration(story));
    document(&format!("{kind} {}", story.name()), &body, !story.is_finished())
}

/// Returns a report with charts. With `grows` the browser reloads it at intervals.
fn document(title: &str, body: &str, grows: bool) -> String {
    HtmlReport { title, body, style: STYLE, reload: grows.then_some(RELOAD) }.document()
}

fn series(story: &RunSummary, name: &str, of: impl Fn(&EpochRow) -> Option<f64>) -> Series {
    let points = story.epochs.iter().filter_map(|e| Some((e.epoch as f64 + 1.0, of(e)?)));
    Series { name: name.into(), points: points.collect() }
}

fn curves(story: &RunSummary) -> String {
    let chart = |title: &str, all: Vec<Series>| {
        let all: Vec<Series> = all.into_iter().filter(|s| !s.points.is_empty()).collect();
        figure(title, &lines(title, "epoch", &all))
    };
    let held = if story.is_search() { "validation" } else { "test" };
    let mut text = chart(
        "Loss",
        vec![series(story, "training", |e| Some(e.train_loss)), series(story, held, EpochRow::loss)],
    );
    let accuracy = |name, of: fn(&EpochRow) -> f64| series(story, name, move |e| Some(100.0 * of(e)));
    text += &chart(
        "Accuracy, %",
        vec![accuracy("training", |e| e.train_accuracy), accuracy(held, EpochRow::accuracy)],
    );
    text += &chart("Learning rate", vec![series(story, "weights", |e| Some(e.lr))]);
    for (title, of) in [
        (
            "Entropy of the mixtures",
            (|e, i| e.entropy.as_ref()?.get(i).copied()) as fn(&EpochRow, usize) -> Option<f64>,
        ),
        ("Convolutions (n, r)", |e, i| Some(e.convolutions?[i] as f64)),
    ] {
        let kinds = [("normal cell, n", 0), ("reduction cell, r", 1)].into_iter().take(groups(story));
        text += &chart(title, kinds.map(|(name, i)| series(story, name, move |e| of(e, i))).collect());
    }
    text
}

/// Number of groups of choices of the space.
fn groups(story: &RunSummary) -> usize {
    let choices = story.config.search.space().map(|space| space.choices()).unwrap_or_default();
    choices.chunk_by(|a, b| a.group == b.group).count()
}

/// Returns a table of the values behind the curves, as an alternative to the charts.
fn epochs(story: &RunSummary) -> String {
    let held = if story.is_search() { "validation" } else { "test" };
    let held_loss = format!("{held} loss");
    let mut head = vec!["epoch", "learning rate", "loss", &held_loss, "training", held];
    let entropies = &["entropy, normal", "entropy, reduction"][..groups(story).min(2)];
    if story.is_search() {
        head.extend(["n", "r", "parameters"]);
        head.extend(entropies);
    }
    let row = |e: &EpochRow| {
        let mut row = vec![
            (e.epoch + 1).to_string(),
            format!("{:.5}", e.lr),
            format!("{:.4}", e.train_loss),
            e.loss().map_or("-".into(), |loss| format!("{loss:.4}")),
            percent(e.train_accuracy),
            percent(e.accuracy()),
        ];
        if let (Some([n, r]), Some(params)) = (e.convolutions, e.params) {
            row.extend([n.to_string(), r.to_string(), thousands(params)]);
            row.extend(
                e.entropy.iter().flatten().take(entropies.len()).map(|entropy| format!("{entropy:.3}")),
            );
        }
        row
    };
    let rows: Vec<_> = story.epochs.iter().map(row).collect();
    format!("<details><summary>Values per epoch</summary>\n{}</details>\n", table(&head, &rows))
}

fn cells(genotype: &Genotype) -> String {
    if genotype.cells().next().is_none() {
        return format!("<p><code>{}</code></p>\n", escaped(&genotype.to_string()));
    }
    let used =
        |p: &&Primitive| genotype.cells().any(|(_, cell)| cell.edges().iter().any(|e| e.primitive == **p));
    let names: Vec<String> = Primitive::ALL.iter().filter(used).map(|p| cell::short(p.name())).collect();
    format!(
        "<p>States from left to right: the outputs of the previous cells, then the nodes. A node is the sum of operations on \
         earlier states; states with a thick frame form the cell's output. Operations here: {}.</p>\n\
         <div class=\"cells\">{}</div>\n",
        escaped(&names.join(", ")),
        figures(genotype)
    )
}

/// Returns a drawing of each cell.
fn figures(genotype: &Genotype) -> String {
    let known = genotype.space().and_then(|space| space.cells()).map(|cells| cells.primitives);
    let family =
        if genotype.cells().count() == 1 { &Primitive::NASBENCH201[..] } else { &Primitive::ALL[..] };
    let candidates = known.unwrap_or(family);
    let kinds = [("normal", "Normal cell", "normal cell"), ("reduce", "Reduction cell", "reduction cell")];
    let of = |(kind, cell)| {
        let found = kinds.iter().find(|(name, ..)| *name == kind);
        found.map(|(_, caption, title)| figure(caption, &cell::draw(title, cell, candidates)))
    };
    genotype.cells().filter_map(of).collect()
}

fn sizes(story: &RunSummary) -> String {
    if story.sizes.is_empty() {
        return String::new();
    }
    let name = |n, r| format!("n{n} r{r}");
    let dots: Vec<_> =
        story.sizes.iter().map(|s| (name(s.n, s.r), s.params as f64, 100.0 * s.valid_accuracy)).collect();
    let row = |s: &read::SizeRow| {
        let (epoch, accuracy) = ((s.epoch + 1).to_string(), percent(s.valid_accuracy));
        vec![
            name(s.n, s.r),
            epoch,
            accuracy,
            thousands(s.params),
            thousands(s.macs),
            format!("genotypes/{}", s.file),
        ]
    };
    let rows: Vec<_> = story.sizes.iter().map(row).collect();
    format!(
        "<h2>Sizes</h2>\n<p>Best epoch of every size. The accuracy is the supernet's; compare it only within a size.</p>\n\
         <div class=\"grid curves\">{}</div>\n{}",
        figure(
            "Validation accuracy, %, over parameters",
            &points("validation accuracy over parameters", "parameters", &dots)
        ),
        table(&["size", "epoch", "validation", "parameters", "MACs per image", "file"], &rows)
    )
}

fn confusion(scores: &Scores) -> String {
    let mut text = format!("<h2>Test results</h2>\n<p>{}</p>\n", html::summary(scores));
    if let Some(matrix) = html::confusion(scores) {
        text += "<h3>Confusion</h3>";
        text += &matrix;
    }
    text + "<h3>Classes</h3>\n" + &html::classes(scores)
}

fn configuration(story: &RunSummary) -> String {
    let toml = story.config.to_toml().unwrap_or_default();
    format!(
        "<details><summary>Configuration</summary>\n<pre tabindex=\"0\">{}</pre></details>\n",
        escaped(&toml)
    )
}

fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 1.0 => format!("{seconds:.2} s"),
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests;
