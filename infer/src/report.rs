//! Formats an evaluation as a self-contained HTML report: scores, confusion matrix, calibration, the worst
//! mistakes.

mod thumbnail;

use std::fmt::Write;

use milenas_models::html::{self, HtmlReport, escaped, percent, table};
use milenas_models::metrics::Scores;

use crate::evaluate::{Evaluation, ModelComparison};

/// Number of mistakes in a report.
const MISTAKES: usize = 24;

/// Largest number of listed differences between two models.
const ROWS: usize = 100;

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

/// Rules for the mistakes.
const STYLE: &str = include_str!("report/mistakes.css");

/// Formats the report as HTML.
pub fn html(report: &EvaluationReport) -> String {
    let EvaluationReport { scores, evaluation, labels, .. } = report;
    let mut body = format!("<p>{}", html::summary(scores));
    if !evaluation.bad.is_empty() {
        let _ = write!(body, " {} more could not be read.", evaluation.bad.len());
    }
    body.push_str("</p>\n<h2>Classes</h2>\n");
    body.push_str(&html::classes(scores));
    body.push_str("<h2>Confusion</h2>\n");
    body.push_str(&html::confusion(scores).unwrap_or_else(|| html::frequent_confusions(scores)));
    body.push_str("<h2>Calibration</h2>\n<p>Of the images with this confidence, how many are right.</p>\n");
    body.push_str(&html::calibration(&evaluation.ranked));
    body.push_str("<h2>Worst mistakes</h2>\n<p>The wrong predictions with the most confidence.</p>\n");
    body.push_str(&mistakes(evaluation, labels));
    if let Some(comparison) = report.comparison {
        body.push_str("<h2>Against the other model</h2>\n");
        body.push_str(&against(comparison));
    }
    HtmlReport { title: &report.title, body: &body, style: STYLE, reload: None }.document()
}

fn against(comparison: &ModelComparison) -> String {
    let ModelComparison { other, agreement, largest_difference, different } = comparison;
    let rows: Vec<_> = different
        .iter()
        .take(ROWS)
        .map(|one| vec![one.path.clone(), one.label.clone(), one.predicted.clone(), one.other.clone()])
        .collect();
    format!(
        "<p>Its top-1 is {}; the two agree on {}, and probabilities differ by at most {largest_difference:.2e}.</p>\n{}",
        percent(other.top1),
        percent(*agreement),
        table(&["image", "is", "predicted", "by the other"], &rows)
    )
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
        assert!(!page.contains("http:") && !page.contains("https:"), "nothing is loaded from elsewhere");
    }
}
