//! Tables of a report.

use std::fmt::Write;

use milenas_models::metrics::{Scores, reliability};

use super::{escaped, percent};
use crate::evaluate::{Evaluation, ModelComparison};

/// Largest number of classes with a full confusion matrix; above it, the most frequent confusions are listed.
const MATRIX: usize = 40;
/// Largest number of listed confusions and of differences between two models.
const ROWS: usize = 100;

pub(super) fn classes(scores: &Scores) -> String {
    let mut text = String::from("<table><tr><th>class<th>images<th>recall<th>precision</tr>\n");
    for class in &scores.classes {
        let (recall, precision) = (class.recall.map_or("-".into(), percent), percent(class.precision));
        let _ = writeln!(
            text,
            "<tr><td>{}<td>{}<td>{recall}<td>{precision}</tr>",
            escaped(&class.name),
            class.images
        );
    }
    text + "</table>\n"
}

pub(super) fn confusion(scores: &Scores, labels: &[String]) -> String {
    if labels.len() > MATRIX {
        return frequent(scores, labels);
    }
    let mut text = String::from("<table class=\"matrix\"><tr><th>");
    labels.iter().for_each(|label| {
        let _ = write!(text, "<th>{}", escaped(label));
    });
    text.push_str("</tr>\n");
    for (i, (row, label)) in scores.confusion.iter().zip(labels).enumerate() {
        let _ = write!(text, "<tr><th>{}", escaped(label));
        let all = row.iter().sum::<usize>().max(1) as f64;
        for (j, &count) in row.iter().enumerate() {
            let colour = if i == j { "40,120,80" } else { "200,50,40" };
            let shade = count as f64 / all;
            let _ = write!(text, "<td style=\"background:rgba({colour},{shade:.3})\">{count}");
        }
        text.push_str("</tr>\n");
    }
    text + "</table>\n"
}

fn frequent(scores: &Scores, labels: &[String]) -> String {
    let cells = scores.confusion.iter().enumerate().flat_map(|(i, row)| {
        row.iter()
            .enumerate()
            .filter(move |(j, count)| i != *j && **count > 0)
            .map(move |(j, count)| (*count, i, j))
    });
    let mut cells: Vec<_> = cells.collect();
    cells.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut text = format!("<p>{} classes: the most frequent confusions.</p>\n", labels.len());
    text.push_str("<table><tr><th>is<th>predicted<th>images</tr>\n");
    for (count, i, j) in cells.into_iter().take(ROWS) {
        let _ = writeln!(text, "<tr><td>{}<td>{}<td>{count}</tr>", escaped(&labels[i]), escaped(&labels[j]));
    }
    text + "</table>\n"
}

pub(super) fn calibration(evaluation: &Evaluation) -> String {
    let mut text = String::from("<table><tr><th>confidence<th>images<th>mean<th>right<th></tr>\n");
    for (i, bin) in reliability(&evaluation.ranked).iter().enumerate().filter(|(_, bin)| bin.images > 0) {
        let (low, high) = (100 * i / 15, 100 * (i + 1) / 15);
        let (mean, right, width) = (percent(bin.confidence), percent(bin.accuracy), 10.0 * bin.accuracy);
        let _ = writeln!(
            text,
            "<tr><td>{low} to {high} %<td>{}<td>{mean}<td>{right}<td style=\"text-align:left\">\
             <span class=\"bar\" style=\"width:{width:.2}rem\"></span></tr>",
            bin.images
        );
    }
    text + "</table>\n"
}

pub(super) fn comparison(comparison: &ModelComparison) -> String {
    let ModelComparison { other, agreement, largest_difference, different } = comparison;
    let mut text = format!(
        "<p>Its top-1 is {}; the two agree on {}, and probabilities differ by at most {largest_difference:.2e}.</p>\n",
        percent(other.top1),
        percent(*agreement)
    );
    text.push_str("<table><tr><th>image<th>is<th>predicted<th>by the other</tr>\n");
    for one in different.iter().take(ROWS) {
        let [path, label, predicted, other] =
            [&one.path, &one.label, &one.predicted, &one.other].map(|text| escaped(text));
        let _ = writeln!(text, "<tr><td>{path}<td>{label}<td>{predicted}<td>{other}</tr>");
    }
    text + "</table>\n"
}
