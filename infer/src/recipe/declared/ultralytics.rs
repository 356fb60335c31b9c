//! Settings from the metadata of ultralytics: `names`, `imgsz` and `task`. Its classifiers resize the shorter
//! side of an image to the size of the input, crop the centre and scale pixels to 0..1
//! (`ultralytics.data.augment.classify_transforms`).

use serde_json::Value;

use super::super::{Recipe, ResizeRule, labels, literal};
use super::{ModelFile, Statement};

pub(super) fn read(context: &ModelFile) -> Vec<Statement> {
    let get = |key: &str| context.metadata.get(key);
    let Some(names) = get("names") else { return Vec::new() };
    let value = |text: &String| literal(text).ok();
    let mut recipe = Recipe { labels: value(names).as_ref().and_then(labels::named), ..Recipe::default() };
    let mut doubts = Vec::new();
    if let Some(task) = get("task") {
        if task != "classify" {
            doubts.push(format!("its task is `{task}`, not `classify`"));
        }
        let side = |value: &Value| value.as_u64().map(|n| n as usize);
        recipe.size = get("imgsz").and_then(value).and_then(|size| match &size {
            Value::Array(sides) => match sides.as_slice() {
                [height, width] => Some([side(height)?, side(width)?]),
                [one] => Some([side(one)?; 2]),
                _ => None,
            },
            one => Some([side(one)?; 2]),
        });
        recipe.mean = Some(vec![0.0]);
        recipe.std = Some(vec![1.0]);
        recipe.resize = Some(ResizeRule::CropFraction(1.0));
    }
    vec![Statement { origin: "metadata of ultralytics".into(), recipe, doubts }]
}
