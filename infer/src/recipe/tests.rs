//! Tests of settings from users, cards, metadata and neighbouring files, and of their priority.

use std::collections::BTreeMap;
use std::path::Path;

use milenas_models::InputContract;

use super::resolver::{MEAN, STD};
use super::*;
use crate::Result;
use crate::runtime::{Element, Feed};

fn feed(element: Element) -> Feed {
    Feed {
        input: "x".into(),
        layout: ImageLayout::Nchw,
        element,
        image: [3, 224, 224],
        batch: None,
        open: false,
    }
}

fn resolver(user: &Recipe, metadata: &[(&str, &str)], path: &Path) -> Result<Resolver> {
    let metadata: BTreeMap<String, String> =
        metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Resolver::new(user, None, &ModelFile { path, metadata: &metadata }, "m.onnx")
}

fn plain(user: &Recipe) -> Resolver {
    resolver(user, &[], Path::new("m.onnx")).unwrap()
}

/// The input contract of a model with 224x224 input in a folder with these files.
fn beside(files: &[(&str, &str)], model: &str) -> (InputContract, Resolver) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut resolver = resolver(&Recipe::default(), &[], &folder.path().join(model)).unwrap();
    (resolver.contract(&feed(Element::Float)).unwrap(), resolver)
}

#[test]
fn given_values_hold_and_the_rest_is_assumed() {
    let mut resolver = plain(&Recipe { mean: Some(vec![0.5]), ..Recipe::default() });
    let contract = resolver.contract(&feed(Element::Float)).unwrap();
    assert_eq!((contract.mean, contract.std), (vec![0.5; 3], STD.to_vec()));
    assert_eq!(contract.resize, Resize::ShorterSide { side: 256 });
    let expected = "m.onnx has no metadata on image preparation; assumed: set `std` to 0.229,0.224,0.225 set `resize` to 256";
    assert_eq!(resolver.notes, [expected]);
    let refused = |user: &Recipe, element| plain(user).contract(&feed(element)).unwrap_err().to_string();
    let recipe = Recipe { mean: Some(vec![0.5]), ..Recipe::default() };
    assert!(refused(&recipe, Element::Byte).contains("takes bytes"));
    let two = Recipe { std: Some(vec![0.5, 0.5]), ..Recipe::default() };
    assert!(refused(&two, Element::Float).contains("one finite number per channel"));
}

#[test]
fn means_of_0_to_255_are_noticed() {
    let contract = |mean: Option<Vec<f32>>, std: Option<Vec<f32>>| {
        let mut resolver = plain(&Recipe { mean, std, ..Recipe::default() });
        assert!(resolver.notes[0].contains("0 to 255"), "{:?}", resolver.notes);
        resolver.contract(&feed(Element::Float)).unwrap()
    };
    let near = |found: &[f32], expected: &[f32]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    };
    let own = contract(Some(vec![123.675, 116.28, 103.53]), Some(vec![58.395, 57.12, 57.375]));
    near(&own.mean, &MEAN);
    near(&own.std, &STD);
    // Keras' tf mode, division by 255 alone, and Caffe, which does not divide.
    near(&contract(Some(vec![127.5]), Some(vec![127.5])).std, &[0.5; 3]);
    near(&contract(Some(vec![0.0]), Some(vec![255.0])).std, &[1.0; 3]);
    near(&contract(Some(vec![103.939, 116.779, 123.68]), Some(vec![1.0])).std, &[1.0 / 255.0; 3]);
    let mixed = Recipe { mean: Some(vec![0.5]), std: Some(vec![255.0]), ..Recipe::default() };
    assert!(resolver(&mixed, &[], Path::new("m")).err().unwrap().to_string().contains("one scale"));
}

#[test]
fn labels_are_as_many_as_classes() {
    let labels = |user: &Recipe, classes| plain(user).labels(classes, None);
    assert_eq!(labels(&Recipe::default(), 2).unwrap(), ["class_0", "class_1"]);
    let recipe = |names: &[&str]| Recipe {
        labels: Some(names.iter().map(ToString::to_string).collect()),
        ..Recipe::default()
    };
    assert_eq!(labels(&recipe(&["a", "b"]), 2).unwrap(), ["a", "b"]);
    let refused = |names: &[&str], classes| labels(&recipe(names), classes).unwrap_err().to_string();
    assert!(refused(&["a", "b"], 7).contains("setting `labels` has 2 names, the network 7 classes"));
    assert!(
        refused(&["background", "a", "b"], 2).contains("one more. help: remove the first name, `background`")
    );
    assert!(refused(&["a", "b"], 3).contains("one fewer"));
}

#[test]
fn metadata_is_read() {
    let read = |metadata: &[(&str, &str)]| {
        let mut resolver = resolver(&Recipe::default(), metadata, Path::new("m.onnx")).unwrap();
        let size = resolver.declared_size();
        let contract = resolver.contract(&feed(Element::Float)).unwrap();
        (size, contract, resolver.labels(2, None).unwrap())
    };
    let ultralytics = [("names", "{0: 'a', 1: \"it's\"}"), ("task", "classify"), ("imgsz", "[224, 224]")];
    let (size, contract, labels) = read(&ultralytics);
    assert_eq!((size, contract.mean, contract.std), (Some([224; 2]), vec![0.0; 3], vec![1.0; 3]));
    assert_eq!(
        (contract.resize, labels),
        (Resize::ShorterSide { side: 224 }, vec!["a".into(), "it's".into()])
    );

    let model_api = [
        ("model_info labels", "a b"),
        ("model_info mean_values", "127.5 127.5 127.5"),
        ("model_info scale_values", "255"),
        ("model_info resize_type", "fit_to_window_letterbox"),
    ];
    let (_, contract, labels) = read(&model_api);
    assert_eq!((contract.mean, contract.std), (vec![0.5; 3], vec![1.0; 3]));
    assert_eq!((contract.resize, labels), (Resize::Letterbox { fill: [0; 3] }, vec!["a".into(), "b".into()]));

    let timm = r#"{"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}"#;
    let (size, contract, _) = read(&[("pretrained_cfg", timm)]);
    assert_eq!((size, contract.filter), (Some([224; 2]), Filter::Bicubic));
    assert_eq!(contract.resize, Resize::ShorterSide { side: 235 });

    assert_eq!(read(&[("character", "a\nb")]).2, ["a", "b"]);
    assert_eq!(read(&[("classes", "[\"a\", \"b\"]")]).2, ["a", "b"]);
    // Labels that do not fit the classes are noted and not used.
    assert_eq!(read(&[("character", "a\nb\nc")]).2, ["class_0", "class_1"]);
}

#[test]
fn the_files_of_hugging_face_are_read() {
    let config = ("config.json", r#"{"id2label": {"1": "b", "0": "a"}, "image_size": 224}"#);
    let vit = r#"{"size": {"height": 224, "width": 224}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5], "resample": 2}"#;
    let (contract, mut resolver) = beside(&[config, ("preprocessor_config.json", vit)], "model.onnx");
    assert_eq!(
        (contract.resize, contract.std[0], contract.filter),
        (Resize::Stretch, 0.25, Filter::Bilinear)
    );
    assert_eq!(resolver.labels(2, None).unwrap(), ["a", "b"]);
    assert!(
        resolver.notes.iter().any(|note| note.contains("preprocessor_config.json")),
        "{:?}",
        resolver.notes
    );

    let read = |text: &str| beside(&[("preprocessor_config.json", text)], "model.onnx").0;
    let resnet = read(
        r#"{"size": {"shortest_edge": 224}, "crop_pct": 0.875, "do_normalize": true, "image_mean": [0, 0, 0], "image_std": [1, 1, 1], "resample": 3}"#,
    );
    assert_eq!((resnet.resize, resnet.filter), (Resize::ShorterSide { side: 256 }, Filter::Bicubic));
    let convnext = read(r#"{"size": {"shortest_edge": 384}, "crop_pct": 0.875}"#);
    assert_eq!(convnext.resize, Resize::Stretch);
    let mobilenet = read(
        r#"{"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_flip_channel_order": true, "do_normalize": false}"#,
    );
    assert_eq!((mobilenet.resize, mobilenet.order), (Resize::ShorterSide { side: 256 }, ChannelOrder::Bgr));
    assert_eq!((mobilenet.mean, mobilenet.std), (vec![0.0; 3], vec![1.0; 3]));
    // Pixels that are not rescaled, and pixels of -1 to 1.
    assert_eq!(read(r#"{"do_rescale": false, "do_normalize": false}"#).std, [1.0 / 255.0; 3]);
    let symmetric =
        read(r#"{"rescale_factor": 0.00784313725490196, "rescale_offset": true, "do_normalize": false}"#);
    assert!((symmetric.mean[0] - 0.5).abs() < 1e-6 && (symmetric.std[0] - 0.5).abs() < 1e-6);
    // The config.json of timm.
    let timm = r#"{"label_names": ["a", "b"], "pretrained_cfg": {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "lanczos"}}"#;
    let (contract, mut resolver) = beside(&[("config.json", timm)], "model.onnx");
    assert_eq!((contract.resize, contract.filter), (Resize::Stretch, Filter::Lanczos));
    assert_eq!(resolver.labels(2, None).unwrap(), ["a", "b"]);
}
