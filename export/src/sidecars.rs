//! Files and metadata for other tools: labels, preprocessing, and a model repository for Triton Inference
//! Server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use milenas_models::{Card, Error, file};
use serde_json::json;

use crate::{IoForm, Result};

/// Largest batch that Triton forms if the file accepts any batch size.
const MAX_BATCH: usize = 128;

/// Returns the metadata of a model file: the card; `model_license` as defined by ONNX; `names`, `task` and
/// `imgsz` as written by ultralytics.
///
/// # Errors
/// [`milenas_models::Error::Malformed`] for a card that cannot be written as JSON.
pub fn metadata(card: &Card, licence: Option<&str>) -> Result<BTreeMap<String, String>> {
    let mut metadata = card.to_metadata()?;
    let names: Vec<String> =
        card.labels.iter().enumerate().map(|(i, l)| format!("{i}: {}", python(l))).collect();
    metadata.insert("names".into(), format!("{{{}}}", names.join(", ")));
    metadata.insert("task".into(), "classify".into());
    metadata.insert("imgsz".into(), format!("[{}, {}]", card.input.height, card.input.width));
    if let Some(licence) = licence {
        metadata.insert("model_license".into(), licence.into());
    }
    Ok(metadata)
}

/// Formats a Python string literal.
fn python(text: &str) -> String {
    let mut literal = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => literal.extend(['\\', c]),
            c if c.is_control() => literal.push_str(&format!("\\U{:08x}", c as u32)),
            c => literal.push(c),
        }
    }
    literal + "'"
}

/// Returns the paths of `labels.txt` and `preprocess.json`, in the folder of the model.
pub fn paths(model: &Path) -> [PathBuf; 2] {
    ["labels.txt", "preprocess.json"].map(|name| model.with_file_name(name))
}

/// Writes `labels.txt` and `preprocess.json` into the folder of the file `model`. `io` is the input and
/// output form with which the file was exported.
///
/// # Errors
/// [`milenas_models::Error::Io`] for a file that cannot be written.
pub fn write(model: &Path, card: &Card, io: &IoForm) -> Result<()> {
    let [names, contract] = paths(model);
    file::write(&names, labels(card).as_bytes())?;
    file::write(&contract, preprocess(card, io).as_bytes())?;
    Ok(())
}

/// Formats the labels, one per line, in the order of the outputs.
fn labels(card: &Card) -> String {
    card.labels.iter().map(|label| label.replace(['\n', '\r'], " ") + "\n").collect()
}

/// Formats the input contract and the preprocessing steps that the file leaves to its user.
fn preprocess(card: &Card, io: &IoForm) -> String {
    let bytes = io.bytes.is_some();
    let json = json!({
        "input": card.input,
        "color": if card.input.channels == 1 { "L" } else { "RGB" },
        "layout": if bytes { "NHWC" } else { "NCHW" },
        "dtype": if bytes { "uint8" } else { "float32" },
        "normalise": !bytes,
        "filter": "bilinear, antialiased",
        "output": output(io),
    });
    format!("{json:#}\n")
}

fn output(io: &IoForm) -> &'static str {
    if io.probabilities { "probabilities" } else { "logits" }
}

/// Writes a model repository for Triton Inference Server into `folder`: `NAME/config.pbtxt`,
/// `NAME/labels.txt` and `NAME/1/model.onnx`. `NAME` is the name of the file `model` without its extension.
///
/// # Errors
/// [`milenas_models::Error::Io`] for a file that cannot be read or written.
pub fn write_triton(folder: &Path, model: &Path, card: &Card, io: &IoForm) -> Result<()> {
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let folder = folder.join(&*name);
    let version = folder.join("1");
    fs::create_dir_all(&version).map_err(Error::io(&version))?;
    let copy = version.join("model.onnx");
    // The model may already be the file in the repository.
    if !file::is_same(model, &copy) {
        fs::copy(model, &copy).map_err(Error::io(&copy))?;
    }
    file::write(&folder.join("labels.txt"), labels(card).as_bytes())?;
    file::write(&folder.join("config.pbtxt"), config(&name, card, io).as_bytes())?;
    Ok(())
}

/// Formats `config.pbtxt`. If the file has a fixed batch size, the dimensions include it and Triton must form
/// no batches.
fn config(name: &str, card: &Card, io: &IoForm) -> String {
    let (c, h, w) = (card.input.channels, card.input.height, card.input.width);
    let (kind, image) = match &io.bytes {
        Some(_) => ("TYPE_UINT8", [h, w, c]),
        None => ("TYPE_FP32", [c, h, w]),
    };
    let dims = |sizes: &[usize]| {
        let sizes: Vec<String> = io.batch.iter().chain(sizes).map(usize::to_string).collect();
        sizes.join(", ")
    };
    let (most, batching) = match io.batch {
        Some(_) => (0, ""),
        None => (MAX_BATCH, "dynamic_batching { }\n"),
    };
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    let (image, classes, output) = (dims(&image), dims(&[card.labels.len()]), output(io));
    format!(
        "name: \"{name}\"\nplatform: \"onnxruntime_onnx\"\nmax_batch_size: {most}\n\
         input [ {{ name: \"input\" data_type: {kind} dims: [ {image} ] }} ]\n\
         output [ {{ name: \"{output}\" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: \"labels.txt\" }} ]\n\
         {batching}"
    )
}

#[cfg(test)]
mod tests {
    use milenas_models::Genotype;

    use super::*;
    use crate::untrained::{self, UntrainedSize};

    fn card() -> Card {
        let size = UntrainedSize { channels: 2, layers: 2, classes: 3, size: 8 };
        let mut card = untrained::network(Genotype::named("DARTS_V2").unwrap(), size, 0).unwrap().card;
        card.labels = ["cat", "it's", "a\nb"].map(String::from).to_vec();
        card
    }

    #[test]
    fn triton_is_told_shapes_without_the_batch() {
        let text = config("net", &card(), &IoForm::default());
        assert_eq!(
            text,
            "name: \"net\"\nplatform: \"onnxruntime_onnx\"\nmax_batch_size: 128\n\
             input [ { name: \"input\" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]\n\
             output [ { name: \"logits\" data_type: TYPE_FP32 dims: [ 3 ] label_filename: \"labels.txt\" } ]\n\
             dynamic_batching { }\n"
        );
        let bytes = Some(card().input);
        let text = config("net", &card(), &IoForm { bytes, probabilities: true, batch: Some(4) });
        assert!(text.contains("max_batch_size: 0\n") && !text.contains("dynamic"), "{text}");
        assert!(text.contains("TYPE_UINT8 dims: [ 4, 8, 8, 3 ]"), "{text}");
        assert!(text.contains("\"probabilities\" data_type: TYPE_FP32 dims: [ 4, 3 ]"), "{text}");
    }

    #[test]
    fn what_stands_beside_the_model_says_what_the_card_says() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("net.onnx");
        fs::write(&model, b"network").unwrap();
        let card = card();
        let io = IoForm { bytes: Some(card.input.clone()), ..IoForm::default() };
        write(&model, &card, &io).unwrap();
        write_triton(&folder.path().join("models"), &model, &card, &io).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("labels.txt"), "cat\nit's\na b\n");
        assert_eq!(read("models/net/labels.txt"), "cat\nit's\na b\n");
        assert_eq!(read("models/net/1/model.onnx"), "network");
        let json: serde_json::Value = serde_json::from_str(&read("preprocess.json")).unwrap();
        assert_eq!((json["layout"].as_str(), json["normalise"].as_bool()), (Some("NHWC"), Some(false)));
        assert_eq!(json["input"]["height"], 8);
        let metadata = metadata(&card, Some("MIT")).unwrap();
        assert_eq!(metadata["names"], "{0: 'cat', 1: 'it\\'s', 2: 'a\\U0000000ab'}");
        assert_eq!((metadata["model_license"].as_str(), metadata["imgsz"].as_str()), ("MIT", "[8, 8]"));
        assert_eq!(Card::from_metadata(&metadata.into_iter().collect(), "memory").unwrap(), card);
    }
}
