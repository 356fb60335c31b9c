//! Reads settings from the metadata of a file and from the files beside it, in the formats of other programs.

mod hugging_face;
mod metadata;
mod model_api;
mod timm;
mod ultralytics;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::Recipe;

/// Size limit of a file beside a model, in bytes. Names of 22,000 classes fit.
const MAX_BYTES: u64 = 16 << 20;

/// Settings from one origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Origin, e.g. `preprocessor_config.json`.
    pub origin: String,
    /// Settings.
    pub recipe: Recipe,
    /// Messages about settings of the origin that this program does not support.
    pub doubts: Vec<String>,
}

/// Model file whose metadata and neighbouring files are searched for settings.
pub struct ModelFile<'a> {
    /// Path of the file.
    pub path: &'a Path,
    /// Metadata of the file.
    pub metadata: &'a BTreeMap<String, String>,
}

/// Function that reads the settings of one format.
type Reader = fn(&ModelFile) -> Vec<Statement>;

/// List of all readers. Settings of an earlier reader override those of a later one.
const READERS: &[Reader] =
    &[ultralytics::read, timm::read, model_api::read, hugging_face::read, metadata::read];

/// Returns all settings that a file without a card states.
pub(super) fn statements(context: &ModelFile) -> Vec<Statement> {
    READERS.iter().flat_map(|read| read(context)).collect()
}

impl ModelFile<'_> {
    /// Reads a JSON file in the model's folder. If that folder is called `onnx`, as in Hugging Face
    /// repositories, its parent folder is searched too.
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

/// Returns the values of a JSON list, or one value.
fn numbers(value: Option<&Value>) -> Option<Vec<f32>> {
    match value? {
        Value::Array(values) => values.iter().map(|x| Some(x.as_f64()? as f32)).collect(),
        other => Some(vec![other.as_f64()? as f32]),
    }
}

fn whole(value: Option<&Value>) -> Option<usize> {
    value?.as_u64().and_then(|n| usize::try_from(n).ok())
}
