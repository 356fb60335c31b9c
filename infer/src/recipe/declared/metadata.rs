//! Class names under metadata keys that several programs use. PaddleOCR's key is `character`.

use super::super::{Recipe, labels};
use super::{ModelFile, Statement};

const KEYS: [&str; 7] =
    ["labels", "classes", "class_names", "class_labels", "id2label", "label_names", "character"];

pub(super) fn read(context: &ModelFile) -> Vec<Statement> {
    let statement = |key: &&str| {
        let names = labels(context.metadata.get(*key)?.as_bytes()).ok().filter(|names| names.len() > 1)?;
        let recipe = Recipe { labels: Some(names), ..Recipe::default() };
        Some(Statement { origin: format!("`{key}` in the metadata"), recipe, doubts: Vec::new() })
    };
    KEYS.iter().filter_map(statement).collect()
}
