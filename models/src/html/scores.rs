//! Scores of a classifier in a report: summary, classes, confusion, calibration.

use std::fmt::Write;

use super::{percent, table, table_of};
use crate::metrics::{ClassScore, Ranked, Scores, reliability};

/// Largest number of classes with a full confusion matrix.
const MATRIX: usize = 40;
/// Largest number of listed confusions.
const ROWS: usize = 100;

/// Returns a sentence with the scores of all classes together.
pub fn summary(scores: &Scores) -> String {
    format!(
        "{} images: top-1 {}, top-5 {}, calibration error {}.",
        scores.images,
        percent(scores.top1),
        percent(scores.top5),
        percent(scores.calibration_error)
    )
}

/// Formats a table of the classes.
pub fn classes(scores: &Scores) -> String {
    let row = |c: &ClassScore| {
        vec![c.name.clone(), c.images.to_string(), c.recall.map_or("-".into(), percent), percent(c.precision)]
    };
    let rows: Vec<_> = scores.classes.iter().map(row).collect();
    table(&["class", "images", "recall", "precision"], &rows)
}

/// Formats the confusion matrix; `None` for more than 40 classes.
pub fn confusion(scores: &Scores) -> Option<String> {
    if scores.classes.len() > MATRIX {
        return None;
    }
    let names = || scores.classes.iter().map(|class| class.name.as_str());
    let head: Vec<&str> = [""].into_iter().chain(names()).collect();
    let rows = names().zip(&scores.confusion).enumerate().map(|(i, (name, row))| {
        let all = row.iter().sum::<usize>().max(1) as f64;
        let mut cells = String::new();
        for (j, &count) in row.iter().enumerate() {
            let colour = if i == j { "0,135,95" } else { "200,64,30" };
            // The square root keeps small fractions visible.
            let shade = 0.75 * (count as f64 / all).sqrt();
            let _ = write!(cells, "<td style=\"background:rgba({colour},{shade:.3})\">{count}</td>");
        }
        (name, cells)
    });
    let matrix = table_of(" class=\"matrix\"", &head, rows);
    Some(format!("<p>Rows are true classes, columns are predicted classes.</p>\n{matrix}"))
}

/// Formats a table of the most frequent confusions.
pub fn frequent_confusions(scores: &Scores) -> String {
    let cells = scores.confusion.iter().enumerate().flat_map(|(i, row)| {
        let wrong = move |(j, count): &(usize, &usize)| i != *j && **count > 0;
        row.iter().enumerate().filter(wrong).map(move |(j, count)| (*count, i, j))
    });
    let mut cells: Vec<_> = cells.collect();
    cells.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let name = |class: usize| scores.classes[class].name.clone();
    let rows: Vec<_> = cells
        .into_iter()
        .take(ROWS)
        .map(|(count, label, predicted)| vec![name(label), name(predicted), count.to_string()])
        .collect();
    let classes = scores.classes.len();
    format!("<p>{classes} classes: the most frequent confusions.</p>\n")
        + &table(&["is", "predicted", "images"], &rows)
}

/// Formats a table of the accuracy by confidence, in the bins of the calibration error.
pub fn calibration(ranked: &[Ranked]) -> String {
    let bins = reliability(ranked);
    let all = bins.len();
    let rows: Vec<(String, String)> = bins
        .iter()
        .enumerate()
        .filter(|(_, bin)| bin.images > 0)
        .map(|(i, bin)| {
            let name = format!("{} to {} %", 100 * i / all, 100 * (i + 1) / all);
            let (mean, right, width) = (percent(bin.confidence), percent(bin.accuracy), 10.0 * bin.accuracy);
            let cells = format!(
                "<td>{}</td><td>{mean}</td><td>{right}</td>\
                 <td class=\"bar\"><span style=\"width:{width:.2}rem\"></span></td>",
                bin.images
            );
            (name, cells)
        })
        .collect();
    table_of(
        "",
        &["confidence", "images", "mean", "right", ""],
        rows.iter().map(|(name, cells)| (name.as_str(), cells.clone())),
    )
}
