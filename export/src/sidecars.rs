//! What stands beside a model file for tools that read no metadata: labels, preprocessing, a Triton repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use milenas_models::{Card, file};
use serde_json::json;

use crate::cli::{Export, Input, Output};

/// The largest batch that Triton forms where the file takes any.
const MAX_BATCH: usize = 128;

/// Metadata in the words of other tools, beside the card: onnx's `model_license`,
/// and `names`, `task`, `imgsz` as ultralytics and its readers have them.
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

/// A Python string literal.
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

/// Where [`write`] puts `labels.txt` and `preprocess.json`: into the folder of the model.
pub fn paths(model: &Path) -> [PathBuf; 2] {
    ["labels.txt", "preprocess.json"].map(|name| model.with_file_name(name))
}

/// Writes both.
pub fn write(model: &Path, card: &Card, asked: &Export) -> Result<()> {
    let [names, contract] = paths(model);
    file::write(&names, labels(card).as_bytes())?;
    file::write(&contract, preprocess(card, asked)?.as_bytes())?;
    Ok(())
}

/// One label a line, in the order of the results.
fn labels(card: &Card) -> String {
    card.labels.iter().map(|label| label.replace(['\n', '\r'], " ") + "\n").collect()
}

/// The input contract with what the file itself does left to nobody.
fn preprocess(card: &Card, asked: &Export) -> Result<String> {
    let bytes = asked.input == Input::Uint8;
    let json = json!({
        "input": card.input,
        "color": if card.input.channels == 1 { "L" } else { "RGB" },
        "layout": if bytes { "NHWC" } else { "NCHW" },
        "dtype": if bytes { "uint8" } else { "float32" },
        "normalise": !bytes,
        "filter": "bilinear, antialiased",
        "output": output(asked),
    });
    Ok(serde_json::to_string_pretty(&json)? + "\n")
}

fn output(asked: &Export) -> &'static str {
    match asked.output {
        Output::Logits => "logits",
        Output::Probabilities => "probabilities",
    }
}

/// Writes a model repository of Triton Inference Server: `DIR/NAME/config.pbtxt`, `labels.txt` and `1/model.onnx`.
pub fn triton(folder: &Path, model: &Path, card: &Card, asked: &Export) -> Result<()> {
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let folder = folder.join(&*name);
    let version = folder.join("1");
    fs::create_dir_all(&version).with_context(|| version.display().to_string())?;
    let copy = version.join("model.onnx");
    // The model may have been written to its place in the repository.
    if !file::is_same(model, &copy) {
        fs::copy(model, &copy).with_context(|| copy.display().to_string())?;
    }
    file::write(&folder.join("labels.txt"), labels(card).as_bytes())?;
    file::write(&folder.join("config.pbtxt"), config(&name, card, asked).as_bytes())?;
    Ok(())
}

/// Dimensions leave out the batch, unless the file has one of its own: then Triton must form none.
fn config(name: &str, card: &Card, asked: &Export) -> String {
    let (c, h, w) = (card.input.channels, card.input.height, card.input.width);
    let (kind, image) = match asked.input {
        Input::Uint8 => ("TYPE_UINT8", [h, w, c]),
        Input::Float32 => ("TYPE_FP32", [c, h, w]),
    };
    let dims = |sizes: &[usize]| {
        let own = asked.batch.map(usize::from);
        let sizes: Vec<String> = own.iter().chain(sizes).map(usize::to_string).collect();
        sizes.join(", ")
    };
    let (most, batching) = match asked.batch {
        Some(_) => (0, ""),
        None => (MAX_BATCH, "dynamic_batching { }\n"),
    };
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    let (image, classes, output) = (dims(&image), dims(&[card.labels.len()]), output(asked));
    format!(
        "name: \"{name}\"\nplatform: \"onnxruntime_onnx\"\nmax_batch_size: {most}\n\
         input [ {{ name: \"input\" data_type: {kind} dims: [ {image} ] }} ]\n\
         output [ {{ name: \"{output}\" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: \"labels.txt\" }} ]\n\
         {batching}"
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use milenas_models::Genotype;

    use super::*;
    use crate::cli::Cli;
    use crate::untrained::{self, Size};

    fn card() -> Card {
        let size = Size { channels: 2, layers: 2, classes: 3, size: 8 };
        let mut card = untrained::network(Genotype::named("DARTS_V2").unwrap(), size, 0).unwrap().card;
        card.labels = ["cat", "it's", "a\nb"].map(String::from).to_vec();
        card
    }

    fn asked(options: &str) -> Export {
        let words = format!("milenas-export DARTS_V2 -o x.onnx {options}");
        Cli::parse_from(words.split_whitespace()).export
    }

    #[test]
    fn triton_is_told_shapes_without_the_batch() {
        let text = config("net", &card(), &asked(""));
        assert_eq!(
            text,
            "name: \"net\"\nplatform: \"onnxruntime_onnx\"\nmax_batch_size: 128\n\
             input [ { name: \"input\" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]\n\
             output [ { name: \"logits\" data_type: TYPE_FP32 dims: [ 3 ] label_filename: \"labels.txt\" } ]\n\
             dynamic_batching { }\n"
        );
        let text = config("net", &card(), &asked("--batch 4 --input uint8 --output probabilities"));
        assert!(text.contains("max_batch_size: 0\n") && !text.contains("dynamic"), "{text}");
        assert!(text.contains("TYPE_UINT8 dims: [ 4, 8, 8, 3 ]"), "{text}");
        assert!(text.contains("\"probabilities\" data_type: TYPE_FP32 dims: [ 4, 3 ]"), "{text}");
    }

    #[test]
    fn what_stands_beside_the_model_says_what_the_card_says() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("net.onnx");
        fs::write(&model, b"network").unwrap();
        let (card, asked) = (card(), asked("--input uint8"));
        write(&model, &card, &asked).unwrap();
        triton(&folder.path().join("models"), &model, &card, &asked).unwrap();
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
