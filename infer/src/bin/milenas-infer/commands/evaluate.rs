//! Evaluation of a model on labelled images.

use std::path::Path;

use crate::console::note;
use anyhow::{Context, Result};
use milenas_infer::Error;
use milenas_infer::evaluate::{ModelComparison, compare, evaluate};
use milenas_infer::report::{EvaluationReport, html};
use milenas_models::images::Source;
use milenas_models::metrics::Scores;
use milenas_models::{Card, file};
use serde::Serialize;

use super::print;
use crate::cli::Evaluate;

/// Largest number of printed differences; `--json` lists more.
const PRINTED: usize = 20;

/// JSON output of `--json`.
#[derive(Serialize)]
struct EvaluateJson<'a> {
    #[serde(flatten)]
    scores: &'a Scores,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<&'a ModelComparison>,
}

pub(super) fn execute(asked: &Evaluate) -> Result<bool> {
    if let Some(report) = &asked.report {
        let mut inputs = vec![("the model", asked.model.as_path()), ("SRC", Path::new(&asked.data))];
        inputs.extend(asked.compare.as_deref().map(|path| ("--compare", path)));
        inputs.extend(asked.recipe.labels.as_deref().map(|path| ("--labels", path)));
        file::check_outputs(&[("--report", report)], &inputs)?;
    }
    let options = super::options(&asked.runtime, Some(&asked.recipe), super::threads(asked.sizes)?)?;
    let load = |path: &Path| super::load(path, &options);
    let model = load(&asked.model)?;
    let other = asked.compare.as_deref().map(load).transpose()?;
    if let Some(other) = other.as_ref().filter(|other| other.labels != model.labels) {
        let source_name = asked.compare.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let (found, expected) = (other.labels.clone(), model.labels);
        return Err(Error::Classes { source_name, found, expected }.into());
    }
    let source = Source::parse(&asked.data)?;
    let mut dataset = source.open(model.card.as_ref().and_then(Card::split).unwrap_or_default())?;
    dataset.relabel(&model.labels).with_context(|| source.to_string())?;
    let (samples, measured) = dataset.to_measure(model.card.as_ref().map(Card::trained_on).as_ref());
    dataset.notes.iter().chain(&measured).for_each(|text| note(format_args!("note: {text}")));
    let plan = super::plan(asked.sizes, asked.limits);
    let result = evaluate(&model, samples.clone(), &plan)?;
    result.bad.iter().for_each(|reason| note(format_args!("omitted: {reason}")));
    let scores = Scores::new(&result.ranked, &model.labels);
    let comparison = match other {
        Some(other) => Some(compare(&result, &evaluate(&other, samples, &plan)?, &model.labels)),
        None => None,
    };
    if let Some(path) = &asked.report {
        let title = format!("{} on {source}", asked.model.display());
        let comparison = comparison.as_ref();
        let report = EvaluationReport {
            title,
            scores: &scores,
            evaluation: &result,
            labels: &model.labels,
            comparison,
        };
        file::write(path, html(&report).as_bytes())?;
        note(format_args!("wrote {}", path.display()));
    }
    match asked.json {
        true => {
            let json = EvaluateJson { scores: &scores, comparison: comparison.as_ref() };
            print(serde_json::to_string(&json)? + "\n")?;
        }
        false => print(format!("{scores}{}", comparison.as_ref().map(describe).unwrap_or_default()))?,
    }
    Ok(result.bad.is_empty())
}

fn describe(comparison: &ModelComparison) -> String {
    let ModelComparison { other, agreement, largest_difference, different } = comparison;
    let mut text = format!(
        "the other: top-1 {:.2} %; the two agree on {:.2} %, probabilities differ by at most {largest_difference:.2e}\n",
        100.0 * other.top1,
        100.0 * agreement
    );
    for one in different.iter().take(PRINTED) {
        let (path, label, predicted, other) = (&one.path, &one.label, &one.predicted, &one.other);
        text.push_str(&format!("{path}: is {label}, predicted {predicted}, by the other {other}\n"));
    }
    if different.len() > PRINTED {
        text.push_str(&format!("and {} more: see --json\n", different.len() - PRINTED));
    }
    text
}
