//! Recipes in the metadata of a file and in the files beside it, as other programs write them.

mod hugging_face;
mod metadata;
mod model_api;
mod timm;
mod ultralytics;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::Recipe;

/// The largest file beside a model that is read, in bytes: names of 22,000 classes fit.
const MAX_BYTES: u64 = 16 << 20;

/// A part of a recipe with its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Where it comes from, e.g. `preprocessor_config.json`.
    pub origin: String,
    /// The values.
    pub recipe: Recipe,
    /// Requests of the origin that this program does not fulfil.
    pub doubts: Vec<String>,
}

/// A model file, for those who look for statements in it and beside it.
pub struct ModelFile<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its metadata.
    pub metadata: &'a BTreeMap<String, String>,
}

/// A reader of statements.
type Reader = fn(&ModelFile) -> Vec<Statement>;

/// All readers; what an earlier one says goes before what a later one says.
const READERS: &[Reader] =
    &[ultralytics::read, timm::read, model_api::read, hugging_face::read, metadata::read];

/// Everything that a file without a card says of itself.
pub(super) fn statements(context: &ModelFile) -> Vec<Statement> {
    READERS.iter().flat_map(|read| read(context)).collect()
}

impl ModelFile<'_> {
    /// A JSON file in the model's folder, or in the folder above where the model is in one called `onnx`, as in the
    /// repositories of Hugging Face.
    fn json(&self, name: &str) -> Option<Value> {
        let folder = self.path.parent()?;
        let above = folder.file_name().filter(|name| *name == "onnx").and_then(|_| folder.parent());
        let beside = [Some(folder), above].into_iter().flatten().map(|folder| folder.join(name));
        let bytes = beside
            .filter(|path| path.is_file())
            .find_map(|path| milenas_models::file::read(&path, MAX_BYTES).ok())?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Numbers of a JSON list, or one number.
fn numbers(value: Option<&Value>) -> Option<Vec<f32>> {
    match value? {
        Value::Array(values) => values.iter().map(|x| Some(x.as_f64()? as f32)).collect(),
        other => Some(vec![other.as_f64()? as f32]),
    }
}

fn whole(value: Option<&Value>) -> Option<usize> {
    value?.as_u64().and_then(|n| usize::try_from(n).ok())
}
