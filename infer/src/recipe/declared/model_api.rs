//! Settings from `model_info` of OpenVINO's Model API in the metadata: `model_info labels`, `model_info
//! mean_values` etc.

use super::super::{Recipe, ResizeRule, per_byte};
use super::{ModelFile, Statement};

pub(super) fn read(context: &ModelFile) -> Vec<Statement> {
    let get = |key: &str| context.metadata.get(&format!("model_info {key}")).map(|value| value.trim());
    if !context.metadata.keys().any(|key| key.starts_with("model_info ")) {
        return Vec::new();
    }
    let mut doubts = Vec::new();
    let list = |text: &str| -> Option<Vec<f32>> {
        let parts = text.split([' ', ',']).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().ok()).collect::<Option<Vec<f32>>>().filter(|list| !list.is_empty())
    };
    // The network takes pixels of 0..255 unless mean or scale are stated.
    let on_bytes = |text: Option<&str>, default: f32| {
        text.and_then(list).unwrap_or(vec![default]).iter().map(|x| per_byte(*x)).collect()
    };
    let pad = get("pad_value").and_then(|text| text.parse().ok()).unwrap_or(0);
    let resize = match get("resize_type") {
        Some("fit_to_window_letterbox") => Some(ResizeRule::Letterbox { fill: [pad; 3] }),
        Some("crop") => Some(ResizeRule::CropFraction(1.0)),
        Some("standard") | None => Some(ResizeRule::Stretch),
        Some(other) => {
            doubts.push(format!("its resize_type `{other}` is not done here"));
            None
        }
    };
    if let Some(order) = get("reverse_input_channels") {
        doubts.push(format!(
            "reverse_input_channels {order} is not read. help: set `channel-order` to rgb or bgr"
        ));
    }
    if let Some(kind) = get("model_type").filter(|kind| !kind.eq_ignore_ascii_case("classification")) {
        doubts.push(format!("its model_type is `{kind}`, not `Classification`"));
    }
    let recipe = Recipe {
        labels: get("labels").map(|text| text.split_whitespace().map(String::from).collect()),
        mean: Some(on_bytes(get("mean_values"), 0.0)),
        std: Some(on_bytes(get("scale_values"), 1.0)),
        resize,
        ..Recipe::default()
    };
    vec![Statement { origin: "`model_info` in the metadata".into(), recipe, doubts }]
}
