//! Formats an evaluation as a self-contained HTML report: scores, confusion matrix, calibration, the worst
//! mistakes.

mod tables;
mod thumbnail;

use std::fmt::Write;

use milenas_models::metrics::Scores;

use crate::evaluate::{Evaluation, ModelComparison};

/// Number of mistakes in a report.
const MISTAKES: usize = 24;

/// Content of a report.
pub struct EvaluationReport<'a> {
    /// Title: model and data.
    pub title: String,
    /// Scores of the model.
    pub scores: &'a Scores,
    /// Images and their results.
    pub evaluation: &'a Evaluation,
    /// Names of the classes.
    pub labels: &'a [String],
    /// Comparison with another model, if requested.
    pub comparison: Option<&'a ModelComparison>,
}

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .15rem .6rem; text-align: right }
th { font-weight: 600 } td:first-child, th:first-child { text-align: left } tr:hover { background: #f4f4f4 }
.matrix td { min-width: 2.2rem; text-align: center; border: 1px solid #fff }
.mistakes { display: flex; flex-wrap: wrap; gap: 1rem } figure { width: 9rem; margin: 0; font-size: 13px }
img { width: 8rem; height: 8rem; object-fit: contain; background: #eee; image-rendering: auto }
figcaption { overflow-wrap: anywhere } .bar { display: inline-block; height: .7rem; background: #47a }
";

/// Formats the report as HTML.
pub fn html(report: &EvaluationReport) -> String {
    let EvaluationReport { scores, evaluation, labels, .. } = report;
    let title = escaped(&report.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n<h1>{title}</h1>\n<p>{} images: top-1 {}, top-5 {}, calibration error {}.",
        scores.images,
        percent(scores.top1),
        percent(scores.top5),
        percent(scores.calibration_error)
    );
    if !evaluation.bad.is_empty() {
        let _ = write!(page, " {} more could not be read.", evaluation.bad.len());
    }
    page.push_str("</p>\n<h2>Classes</h2>\n");
    page.push_str(&tables::classes(scores));
    page.push_str("<h2>Confusion</h2>\n<p>Rows are true classes, columns are predicted classes.</p>\n");
    page.push_str(&tables::confusion(scores, labels));
    page.push_str("<h2>Calibration</h2>\n<p>Of the images with this confidence, how many are right.</p>\n");
    page.push_str(&tables::calibration(evaluation));
    page.push_str("<h2>Worst mistakes</h2>\n<p>The wrong predictions with the most confidence.</p>\n");
    page.push_str(&mistakes(evaluation, labels));
    if let Some(comparison) = report.comparison {
        page.push_str("<h2>Against the other model</h2>\n");
        page.push_str(&tables::comparison(comparison));
    }
    page.push_str("</html>\n");
    page
}

fn mistakes(evaluation: &Evaluation, labels: &[String]) -> String {
    let wrong = evaluation.ranked.iter().zip(&evaluation.samples).filter(|(r, _)| r.predicted != r.label);
    let mut wrong: Vec<_> = wrong.collect();
    wrong.sort_by(|(a, _), (b, _)| b.confidence.total_cmp(&a.confidence));
    let mut text = String::from("<div class=\"mistakes\">\n");
    for (r, sample) in wrong.into_iter().take(MISTAKES) {
        let name = escaped(&sample.name());
        let image = thumbnail::of(sample).map_or("no longer readable".into(), |data| {
            format!("<img alt=\"{name}\" title=\"{name}\" src=\"data:image/png;base64,{data}\">")
        });
        let [is, predicted] = [r.label, r.predicted].map(|class| escaped(&labels[class as usize]));
        let _ = writeln!(
            text,
            "<figure>{image}<figcaption>is <b>{is}</b>, predicted <b>{predicted}</b> at {}<br>{name}</figcaption></figure>",
            percent(r.confidence)
        );
    }
    text + "</div>\n"
}

fn percent(part: f64) -> String {
    format!("{:.2} %", 100.0 * part)
}

/// Escapes a text of unknown origin for HTML, inside elements and quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::compare;
    use milenas_models::Source;
    use milenas_models::metrics::Ranked;

    #[test]
    fn a_page_holds_everything_and_names_are_escaped() {
        let samples = Source::Digits.open(0).unwrap().test;
        let labels: Vec<String> = (0..10).map(|i| format!("<{i}>")).collect();
        let answer = |i: usize, class: u32| {
            let mut logits = vec![0.0; 10];
            logits[(class as usize + usize::from(i.is_multiple_of(7))) % 10] = 1.0 + i as f32 * 0.01;
            Ranked::new(&logits, class)
        };
        let ranked: Vec<Ranked> = samples.iter().enumerate().map(|(i, s)| answer(i, s.class())).collect();
        let evaluation = Evaluation { samples, ranked, ..Evaluation::default() };
        let scores = Scores::new(&evaluation.ranked, &labels);
        let comparison = compare(&evaluation, &evaluation, &labels);
        assert_eq!((comparison.agreement, comparison.different.len()), (1.0, 0));
        let title = "a & b".into();
        let report = EvaluationReport {
            title,
            scores: &scores,
            evaluation: &evaluation,
            labels: &labels,
            comparison: Some(&comparison),
        };
        let page = html(&report);
        assert_eq!(page.matches("data:image/png;base64,").count(), MISTAKES);
        assert!(page.contains("a &amp; b") && page.contains("&lt;3&gt;") && !page.contains("<3>"));
        assert!(!page.contains("http"), "nothing is loaded from elsewhere");
    }
}
