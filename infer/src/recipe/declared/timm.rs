//! Settings from timm's `pretrained_cfg`, in the metadata or in `config.json` beside the file (see
//! `timm.data.transforms_factory`).

use milenas_models::input::Filter;
use serde_json::Value;

use super::super::{Recipe, ResizeRule, labels};
use super::{ModelFile, Statement, numbers};

/// Default fraction of the centre crop, timm's `DEFAULT_CROP_PCT`.
const CROP: f64 = 0.875;

pub(super) fn read(context: &ModelFile) -> Vec<Statement> {
    let mut found = Vec::new();
    if let Some(text) = context.metadata.get("pretrained_cfg")
        && let Ok(value) = super::super::literal(text)
    {
        found.push(statement(&value, None, "`pretrained_cfg` of timm in the metadata"));
    }
    if let Some(config) = context.json("config.json")
        && let Some(value) = config.get("pretrained_cfg").filter(|value| value.is_object())
    {
        found.push(statement(value, config.get("label_names"), "`pretrained_cfg` of timm in config.json"));
    }
    found
}

fn statement(value: &Value, names: Option<&Value>, origin: &str) -> Statement {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let size = numbers(value.get("input_size")).filter(|size| size.len() == 3);
    let mean = numbers(value.get("mean"));
    let fraction = value.get("crop_pct").and_then(Value::as_f64).unwrap_or(CROP);
    let mut doubts = Vec::new();
    let resize = match text("crop_mode") {
        Some("squash") => ResizeRule::Stretch,
        Some("border") => {
            let fill = mean.as_deref().and_then(|mean| <[f32; 3]>::try_from(mean).ok()).unwrap_or_default();
            ResizeRule::Letterbox { fill: fill.map(|x| (255.0 * x).round() as u8) }
        }
        _ => ResizeRule::CropFraction(fraction),
    };
    if !matches!(resize, ResizeRule::CropFraction(_)) && fraction != 1.0 {
        doubts.push(format!("crop_pct {fraction} is not applied with its crop_mode"));
    }
    let filter = match text("interpolation") {
        Some("bicubic") => Some(Filter::Bicubic),
        Some("bilinear" | "random") => Some(Filter::Bilinear),
        Some("lanczos") => Some(Filter::Lanczos),
        Some(other) => {
            doubts.push(format!("its interpolation `{other}` is not done here"));
            None
        }
        None => None,
    };
    let recipe = Recipe {
        labels: names.or_else(|| value.get("label_names")).and_then(labels::named),
        size: size.map(|size| [size[1] as usize, size[2] as usize]),
        std: numbers(value.get("std")),
        mean,
        resize: Some(resize),
        filter,
        ..Recipe::default()
    };
    Statement { origin: origin.into(), recipe, doubts }
}
