//! Summary of a model's input preparation and output meaning.

use anyhow::Result;
use milenas_infer::model::Classifier;
use milenas_infer::recipe::RecipePart;
use serde::Serialize;

use super::print;
use crate::cli::Inspect;
use crate::console::flags;

/// Largest width of the column of values, in characters.
const WIDEST: usize = 44;

/// JSON output of `--json`.
#[derive(Serialize)]
struct InspectJson<'a> {
    model: String,
    labels: &'a [String],
    parts: &'a [RecipePart],
    notes: Vec<String>,
}

pub(super) fn execute(asked: &Inspect) -> Result<bool> {
    let options = super::options(&asked.runtime, Some(&asked.recipe), 0)?;
    let path = asked.model.display();
    if asked.json {
        let Classifier { labels, recipe, notes, .. } = &Classifier::load(&asked.model, &options)?;
        let notes = notes.iter().map(|note| flags(note)).collect();
        let json = InspectJson { model: path.to_string(), labels, parts: recipe, notes };
        print(serde_json::to_string(&json)? + "\n")?;
        return Ok(true);
    }
    let model = super::load(&asked.model, &options)?;
    let widest = model.recipe.iter().map(|part| part.value.chars().count()).max().unwrap_or_default();
    let widest = widest.min(WIDEST);
    let mut text = format!("{path}: {} classes\n", model.labels.len());
    for RecipePart { name, value, origin } in &model.recipe {
        text += &format!("  {name:14} {value:widest$}  {origin}\n");
    }
    print(text)?;
    Ok(true)
}
