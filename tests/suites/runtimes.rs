//! The runtimes of milenas-infer: the same answers on every form of our files, and on files that say nothing of themselves.
//!
//! A runtime that is not here is passed over with a word, unless `MILENAS_RUNTIMES` names it, as `make test` does.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::Path;

use milenas_export::onnx::schema::tensor_shape_proto::dimension::Value;
use milenas_export::onnx::schema::{ModelProto, type_proto};
use milenas_infer::Error;
use milenas_infer::model::{Classifier, ClassifierOptions};
use milenas_infer::recipe::Recipe;
use milenas_infer::runtime::{RuntimeConfig, RuntimeKind};
use milenas_models::Rng;
use milenas_models::fused::Precision;
use milenas_tests::{run, succeed};
use prost::Message;

/// Not a multiple of the batch that one of the files has.
const IMAGES: usize = 5;
const SMALL: &str = "--channels 4 --layers 3 --size 16 --seed 1";

fn load(path: &Path, kind: RuntimeKind, recipe: &Recipe) -> Option<Classifier> {
    let runtime = RuntimeConfig { kind, ..RuntimeConfig::default() };
    let options = ClassifierOptions { runtime, recipe: recipe.clone(), features: false };
    match Classifier::load(path, &options) {
        Ok(model) => Some(model),
        Err(error @ Error::Unavailable { .. }) => {
            let needed = std::env::var("MILENAS_RUNTIMES").unwrap_or_default();
            assert!(!needed.split(',').any(|name| name == kind.name()), "{error}");
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{}: {error}", kind.name()),
    }
}

/// Probabilities for the same images.
fn probabilities(model: &Classifier) -> Vec<f64> {
    let mut rng = Rng::new(3, "images");
    let mut images = Vec::new();
    for _ in 0..IMAGES {
        let pixels: Vec<u8> = (0..model.input.len()).map(|_| (128.0 + 60.0 * rng.normal()) as u8).collect();
        let mut numbers = vec![0.0; pixels.len()];
        model.input.normalise(&pixels, &mut numbers);
        images.extend(numbers);
    }
    let answers = model.runtime.run(&images, IMAGES).unwrap();
    assert_eq!(answers.len(), IMAGES);
    answers.iter().flat_map(|answer| model.meaning.probabilities(&answer.outputs)).collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{what}: differs by {worst}");
}

#[test]
fn every_runtime_gives_the_same_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let mut forms: Vec<(String, f64)> = ["portable", "onnxruntime", "candle-onnx"]
        .into_iter()
        .map(|target| format!("--target {target}"))
        .chain((13..=22).map(|opset| format!("--opset {opset}")))
        .chain(
            ["--batch 2 --fp16 --output probabilities", "--target candle-onnx --input uint8"]
                .map(String::from),
        )
        .map(|form| (form, 1e-4))
        .collect();
    // A number on the edge between two integers may fall to either side.
    forms.push(("--int8 --calibrate digits --accuracy-gate 100".into(), 3e-2));
    forms.push(("--int8 --calibrate digits --accuracy-gate 100 --input uint8 --batch 2".into(), 3e-2));
    for genotype in ["DARTS_V2", "AmoebaNet"] {
        for (form, tolerance) in &forms {
            succeed(folder.path(), &format!("milenas-export {genotype} {SMALL} {form} -o model.onnx"));
            let native = load(&path, RuntimeKind::Native, &Recipe::default()).unwrap();
            let expected = probabilities(&native);
            // The fused kernels run only DARTS_V2 without quantisation or operators of another reader; else there is a note.
            let slow = ["AmoebaNet", "--int8", "--target onnxruntime", "--target candle-onnx"];
            let slow = slow.iter().any(|what| format!("{genotype} {form}").contains(what));
            assert_eq!(native.notes.len(), usize::from(slow), "{genotype} {form}: {:?}", native.notes);
            // candle-onnx refuses a convolution whose steps down and across differ, which AmoebaNet's 7x1 and 1x7 do.
            let candle = form.contains("candle-onnx") && genotype == "DARTS_V2";
            let candle = candle.then_some(RuntimeKind::CandleOnnx);
            for kind in [RuntimeKind::Ort, RuntimeKind::Tract].into_iter().chain(candle) {
                let Some(model) = load(&path, kind, &Recipe::default()) else { continue };
                assert!(model.notes.is_empty());
                let what = format!("{genotype} {form}, {}", kind.name());
                assert_close(&probabilities(&model), &expected, *tolerance, &what);
            }
        }
    }
}

/// Copies a model without its card, and with an open input size if `open`.
fn foreign(from: &Path, to: &Path, open: bool) {
    let mut model = ModelProto::decode(fs::read(from).unwrap().as_slice()).unwrap();
    model.metadata_props.clear();
    let graph = model.graph.as_mut().unwrap();
    graph.value_info.clear();
    let Some(type_proto::Value::TensorType(tensor)) = &mut graph.input[0].r#type.as_mut().unwrap().value
    else {
        panic!("the input is a tensor");
    };
    for (dim, name) in tensor.shape.as_mut().unwrap().dim[2..].iter_mut().zip(["height", "width"]) {
        if open {
            dim.value = Some(Value::DimParam(name.into()));
        }
    }
    fs::write(to, model.encode_to_vec()).unwrap();
}

#[test]
fn a_file_without_card_is_run_as_the_user_says() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (own, fixed, open) = (root.join("own.onnx"), root.join("fixed.onnx"), root.join("open.onnx"));
    succeed(root, &format!("milenas-export DARTS_V2 {SMALL} -o own.onnx"));
    foreign(&own, &fixed, false);
    foreign(&own, &open, true);
    let model = load(&own, RuntimeKind::Native, &Recipe::default()).unwrap();
    let expected = probabilities(&model);
    let output = Recipe {
        size: Some([16, 16]),
        mean: Some(model.input.mean.clone()),
        std: Some(model.input.std.clone()),
        ..Recipe::default()
    };
    for (path, kind) in [
        (&fixed, RuntimeKind::Native),
        (&fixed, RuntimeKind::Ort),
        (&open, RuntimeKind::Ort),
        (&open, RuntimeKind::Tract),
    ] {
        let Some(model) = load(path, kind, &output) else { continue };
        assert_eq!((model.labels.len(), model.labels[9].as_str()), (10, "class_9"));
        let [crop, outputs] = &model.notes[..] else { panic!("{:?}", model.notes) };
        assert!(
            crop.contains("assumed: set `resize` to 19") && outputs.contains("taken as logits"),
            "{outputs}"
        );
        assert_close(&probabilities(&model), &expected, 1e-4, kind.name());
    }
}

#[test]
fn flags_go_before_the_card_and_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    succeed(root, &format!("milenas-export DARTS_V2 {SMALL} -o own.onnx"));
    foreign(&root.join("own.onnx"), &root.join("foreign.onnx"), false);
    fs::write(root.join("labels.txt"), (0..10).map(|i| format!("thing {i}\n")).collect::<String>()).unwrap();
    // A gray image, PGM.
    fs::write(root.join("a.pgm"), [&b"P5 16 16 255\n"[..], &[90; 256]].concat()).unwrap();

    let classify = "milenas-infer classify own.onnx a.pgm --all-scores";
    let own = succeed(root, classify);
    let output = succeed(root, &format!("{classify} --labels labels.txt"));
    assert!(output.err.contains("note: own.onnx: --labels differs from its card"), "{}", output.err);
    assert!(output.out.contains("thing "), "{}", output.out);
    let other = succeed(root, &format!("{classify} --std 1"));
    assert!(other.err.contains("override it") && other.out != own.out, "{}\n{}", other.err, other.out);
    let raw = succeed(root, &format!("{classify} --outputs-are probabilities"));
    assert!(raw.out != own.out, "numbers are output as they come");

    let guessed = succeed(root, "milenas-infer classify foreign.onnx a.pgm");
    assert!(
        guessed.err.contains("--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --resize"),
        "{}",
        guessed.err
    );
    let full = "milenas-infer classify foreign.onnx a.pgm --mean 0.5 --std 0.25 --resize stretch";
    let full = succeed(root, full);
    let noted = full.err.matches("note:").count();
    assert!(noted == 1 && full.err.contains("taken as logits"), "{}", full.err);
    assert!(full.out.contains(",class_"), "{}", full.out);
    let bench = run(root, "milenas-infer bench foreign.onnx --runtime native --batch 2 --runs 1 --json");
    assert!(bench.out.contains("\"runtime\":\"native\""), "{}", bench.out);
}

/// bfloat16 by name: the same answers up to its eight bits, and a reason where it cannot be had.
#[test]
fn bf16_is_had_by_name_from_the_native_kernels_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    succeed(root, &format!("milenas-export DARTS_V2 {SMALL} -o model.onnx"));
    succeed(root, &format!("milenas-export DARTS_V2 {SMALL} --int8 --calibrate digits -o int8.onnx"));
    let [exact, rounded] = [Precision::Float32, Precision::Bf16].map(|precision| {
        let runtime = RuntimeConfig { precision, ..RuntimeConfig::default() };
        let options = ClassifierOptions { runtime, recipe: Recipe::default(), features: false };
        probabilities(&Classifier::load(&root.join("model.onnx"), &options).unwrap())
    });
    assert_ne!(exact, rounded);
    assert_close(&rounded, &exact, 2e-2, "bfloat16");

    let bench = "milenas-infer bench model.onnx --batch 2 --runs 1 --precision bf16 --json";
    assert!(succeed(root, bench).out.contains("\"precision\":\"bf16\""));
    for (file, more, reason) in [
        ("int8.onnx", "", "help: --precision float32"),
        ("model.onnx", "--runtime candle-onnx", "help: --runtime native for bf16"),
    ] {
        let refused = run(root, &format!("milenas-infer bench {file} {more} --precision bf16"));
        assert!(refused.err.contains(reason), "{file} {more}: {}", refused.err);
    }
}
