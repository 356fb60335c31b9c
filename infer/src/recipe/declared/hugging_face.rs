//! Settings from `config.json` and `preprocessor_config.json` of Hugging Face transformers, beside the file.

use milenas_models::input::{ChannelOrder, Filter};
use serde_json::Value;

use super::super::{Recipe, ResizeRule, labels};
use super::{ModelFile, Statement, numbers, whole};

/// Length of the shorter side from which ConvNeXt's processor stretches the image instead of cropping it.
const UNCROPPED: usize = 384;

pub(super) fn read(context: &ModelFile) -> Vec<Statement> {
    let mut found = Vec::new();
    if let Some(config) = context.json("preprocessor_config.json") {
        found.push(preprocessor(&config));
    }
    if let Some(config) = context.json("config.json") {
        let names = config.get("id2label").and_then(labels::named);
        // `label2id` maps the names of the same classes to their indices.
        let names = names.or_else(|| config.get("label2id").and_then(labels::named));
        let side = whole(config.get("image_size"));
        let recipe = Recipe { labels: names, size: side.map(|side| [side; 2]), ..Recipe::default() };
        found.push(Statement { origin: "config.json".into(), recipe, doubts: Vec::new() });
    }
    found
}

fn preprocessor(config: &Value) -> Statement {
    let mut doubts = Vec::new();
    let does = |key: &str, default: bool| config.get(key).and_then(Value::as_bool).unwrap_or(default);
    let (mean, std) = scale(config, &does);
    let (size, resize) = size_and_resize(config, &does, &mut doubts);
    let resample = config.get("resample").and_then(Value::as_u64);
    if let Some(number) = resample.filter(|number| filter(*number).is_none()) {
        doubts.push(format!("its resample {number} of Pillow is not done here"));
    }
    let recipe = Recipe {
        size,
        mean,
        std,
        resize,
        filter: resample.and_then(filter),
        order: does("do_flip_channel_order", false).then_some(ChannelOrder::Bgr),
        ..Recipe::default()
    };
    Statement { origin: "preprocessor_config.json".into(), recipe, doubts }
}

/// Returns mean and standard deviation for pixels of 0..1. The processor computes `(byte * factor - offset -
/// mean) / std`, and EfficientNet's divides by `std` once more.
fn scale(config: &Value, does: &dyn Fn(&str, bool) -> bool) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
    let factor = match does("do_rescale", true) {
        true => config.get("rescale_factor").and_then(Value::as_f64).unwrap_or(1.0 / 255.0),
        false => 1.0,
    };
    let white = (255.0 * factor) as f32;
    let offset = if does("rescale_offset", false) { 1.0 } else { 0.0 };
    let (mean, std) = match does("do_normalize", true) {
        true => (numbers(config.get("image_mean")), numbers(config.get("image_std"))),
        false => (Some(vec![0.0]), Some(vec![1.0])),
    };
    let twice = does("include_top", false);
    let mean = mean.map(|mean| mean.iter().map(|x| (x + offset) / white).collect());
    let std = std.map(|std| std.iter().map(|x| if twice { x * x } else { *x } / white).collect());
    (mean, std)
}

fn size_and_resize(
    config: &Value,
    does: &dyn Fn(&str, bool) -> bool,
    doubts: &mut Vec<String>,
) -> (Option<[usize; 2]>, Option<ResizeRule>) {
    let sides = |value: Option<&Value>| -> Option<[usize; 2]> {
        let value = value?;
        let side = |key: &str| whole(value.get(key));
        whole(Some(value)).map(|side| [side; 2]).or_else(|| Some([side("height")?, side("width")?]))
    };
    let size = config.get("size");
    let shortest = size.and_then(|size| whole(size.get("shortest_edge")));
    let crop =
        sides(config.get("crop_size")).filter(|_| does("do_center_crop", config.get("crop_size").is_some()));
    let fraction = config.get("crop_pct").and_then(Value::as_f64);
    match (shortest, sides(size), crop) {
        (Some(side), _, _) if fraction.is_some() => {
            let cropped = fraction.filter(|_| side < UNCROPPED).map(ResizeRule::CropFraction);
            (Some([side; 2]), Some(cropped.unwrap_or(ResizeRule::Stretch)))
        }
        (Some(side), _, Some(crop)) => (Some(crop), Some(ResizeRule::ShorterSide { side })),
        (Some(side), _, None) => {
            doubts.push(
                "it crops nothing, so the network takes whole images of any shape; the centre is used here"
                    .into(),
            );
            (Some([side; 2]), Some(ResizeRule::ShorterSide { side }))
        }
        (None, Some(from), Some(crop)) if from != crop => {
            doubts.push("it stretches an image before cropping; the proportions are kept here".into());
            (Some(crop), Some(ResizeRule::ShorterSide { side: from[0].max(from[1]) }))
        }
        (None, Some(size), _) => (Some(size), Some(ResizeRule::Stretch)),
        (None, None, crop) => (crop, None),
    }
}

/// Converts Pillow's integer of a filter.
fn filter(number: u64) -> Option<Filter> {
    Some(match number {
        1 => Filter::Lanczos,
        2 => Filter::Bilinear,
        3 => Filter::Bicubic,
        _ => return None,
    })
}
