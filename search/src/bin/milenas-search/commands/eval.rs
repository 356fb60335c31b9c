//! `milenas-search eval`: evaluates trained weights on labelled images.

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result};
use milenas_models::images::Source;
use milenas_models::{Model, file};

use crate::cli::EvalOptions;
use crate::progress::EpochProgress;
use milenas_search::run::TestEvaluation;

pub(super) fn eval(options: &EvalOptions) -> Result<bool> {
    if let Some(path) = &options.predictions {
        let inputs = [("--weights", options.weights.as_path()), ("--data", Path::new(&options.data))];
        file::check_outputs(&[("--predictions", path)], &inputs)?;
    }
    let model = Model::load(&options.weights)?;
    let found = TestEvaluation::run(&model, &Source::parse(&options.data)?)?;
    let progress = EpochProgress::new("eval");
    found.notes.iter().for_each(|note| progress.line(&format!("note: {note}")));
    for fault in found.images.iter().filter_map(|(_, image)| image.as_ref().err()) {
        progress.line(&format!("note: skipped: {fault}"));
    }
    if let Some(path) = &options.predictions {
        let table = predictions(&found, &model.card.labels);
        file::write(path, &table.with_context(|| path.display().to_string())?)?;
        progress.line(&format!("written to {}", path.display()));
    }
    match options.json {
        true => writeln!(stdout(), "{}", serde_json::to_string(&found.scores)?)?,
        false => write!(stdout(), "{}", found.scores)?,
    }
    Ok(found.images.iter().all(|(_, image)| image.is_ok()))
}

/// Formats the predictions as CSV, in the columns of `milenas-infer classify`, so that both can be compared
/// line by line.
fn predictions(found: &TestEvaluation, labels: &[String]) -> Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["path", "label", "index", "score", "error"])?;
    for (name, image) in &found.images {
        match image {
            Ok(ranked) => {
                let index = ranked.predicted.to_string();
                let label = labels.get(ranked.predicted as usize).map_or("", |label| label);
                table.write_record([name, label, &index, &format!("{:.6}", ranked.confidence), ""])?;
            }
            Err(fault) => table.write_record([name, "", "", "", &fault.to_string()])?,
        }
    }
    Ok(table.into_inner()?)
}
