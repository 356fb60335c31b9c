//! Measure a model on labelled images.

use std::path::Path;

use anyhow::Result;
use milenas_infer::Error;
use milenas_infer::evaluate::{Comparison, compare, evaluate};
use milenas_infer::report::{Report, html};
use milenas_models::file;
use milenas_models::images::Source;
use milenas_models::metrics::Scores;
use serde::Serialize;

use crate::cli::Evaluate;

/// Differences that are printed; `--json` has more.
const PRINTED: usize = 20;

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    scores: &'a Scores,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<&'a Comparison>,
}

pub(super) fn execute(asked: &Evaluate) -> Result<bool> {
    let options = super::options(&asked.runtime, Some(&asked.recipe))?;
    let load = |path: &Path| super::load(path, &options);
    let model = load(&asked.model)?;
    let other = asked.compare.as_deref().map(load).transpose()?;
    if let Some(other) = other.as_ref().filter(|other| other.labels != model.labels) {
        let source_name = asked.compare.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let (found, expected) = (other.labels.clone(), model.labels);
        return Err(Error::Classes { source_name, found, expected }.into());
    }
    let source = Source::parse(&asked.data)?;
    let dataset = source.open(model.seed.unwrap_or_default())?;
    if dataset.classes != model.labels {
        let (found, expected) = (dataset.classes, model.labels);
        return Err(Error::Classes { source_name: source.to_string(), found, expected }.into());
    }
    let plan = super::plan(asked.sizes);
    let result = evaluate(&model, dataset.test.clone(), &plan)?;
    result.bad.iter().for_each(|reason| eprintln!("left out: {reason}"));
    let scores = Scores::new(&result.ranked, &model.labels);
    let comparison = match other {
        Some(other) => Some(compare(&result, &evaluate(&other, dataset.test, &plan)?, &model.labels)),
        None => None,
    };
    if let Some(path) = &asked.report {
        let title = format!("{} on {source}", asked.model.display());
        let comparison = comparison.as_ref();
        let report =
            Report { title, scores: &scores, evaluation: &result, labels: &model.labels, comparison };
        file::write(path, html(&report).as_bytes())?;
        eprintln!("wrote {}", path.display());
    }
    match asked.json {
        true => {
            let json = Json { scores: &scores, comparison: comparison.as_ref() };
            println!("{}", serde_json::to_string(&json)?);
        }
        false => {
            print!("{scores}");
            comparison.iter().for_each(tell);
        }
    }
    Ok(result.bad.is_empty())
}

fn tell(comparison: &Comparison) {
    let Comparison { other, agreement, largest_difference, different } = comparison;
    println!(
        "the other: top-1 {:.2} %; the two agree on {:.2} %, probabilities differ by at most {largest_difference:.2e}",
        100.0 * other.top1,
        100.0 * agreement
    );
    for one in different.iter().take(PRINTED) {
        println!("{}: is {}, predicted {}, by the other {}", one.path, one.label, one.predicted, one.other);
    }
    if different.len() > PRINTED {
        println!("and {} more: see --json", different.len() - PRINTED);
    }
}
