//! Files of other programs in ONNX Runtime: what their inputs and outputs are, and what they say of themselves.
//!
//! The files are made here. Each sees the mean colour of an image; without ONNX Runtime the tests skip, saying so,
//! unless `MILENAS_RUNTIMES` names it, as `make test` does.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::Path;

use milenas_export::onnx::schema::tensor_shape_proto::{Dimension, dimension};
use milenas_export::onnx::schema::*;
use milenas_tests::{ProgramOutput, run};
use prost::Message;

/// `classify` of the two images, fed as they are.
const CLASSIFY: &str = "milenas-infer classify model.onnx red.ppm green.ppm --runtime ort --mean 0 --std 1 --resize stretch --all-scores";

fn attribute(name: &str, change: impl FnOnce(&mut AttributeProto)) -> AttributeProto {
    let mut attribute = AttributeProto { name: name.into(), ..Default::default() };
    change(&mut attribute);
    attribute
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    attribute(name, |a| {
        a.ints = values.to_vec();
        a.set_type(AttributeType::Ints);
    })
}

fn int(name: &str, value: i64) -> AttributeProto {
    attribute(name, |a| {
        a.i = Some(value);
        a.set_type(AttributeType::Int);
    })
}

fn node(op_type: &str, input: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let input = input.iter().map(ToString::to_string).collect();
    let (name, output) = (format!("make {output}"), vec![output.to_string()]);
    NodeProto { op_type: op_type.into(), name, input, output, attribute, ..Default::default() }
}

/// `x: FLOAT batch 3 8 8`; a number is a fixed size.
fn port(text: &str) -> ValueInfoProto {
    let mut words = text.split(' ');
    let (name, kind) = (words.next().unwrap(), words.next().unwrap());
    let elem_type = (0..24).find(|&n| DataType::of(n).to_string() == kind).unwrap();
    let dim = |word: &str| Dimension {
        value: Some(match word.parse() {
            Ok(n) => dimension::Value::DimValue(n),
            Err(_) => dimension::Value::DimParam(word.into()),
        }),
        ..Default::default()
    };
    let tensor =
        type_proto::Tensor { elem_type, shape: Some(TensorShapeProto { dim: words.map(dim).collect() }) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }) }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let data_type = DataType::Float as i32;
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type,
        raw_data: raw.into(),
        ..Default::default()
    }
}

fn longs(name: &str, values: &[i64]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let (dims, data_type) = (vec![values.len() as i64], DataType::Int64 as i32);
    TensorProto { name: name.into(), dims, data_type, raw_data: raw.into(), ..Default::default() }
}

/// A file whose node `l` gives, of the mean colour, ten times red, green and blue; `more` nodes follow.
struct File {
    model: ModelProto,
}

impl File {
    fn new(input: &str, outputs: &[&str], more: Vec<NodeProto>) -> Self {
        let mut nodes = vec![
            node("GlobalAveragePool", &["x"], "g", vec![]),
            node("Flatten", &["g"], "m", vec![]),
            node("MatMul", &["m", "w"], "l", vec![]),
        ];
        nodes.extend(more);
        File::of(nodes, input, outputs)
    }

    fn of(node: Vec<NodeProto>, input: &str, outputs: &[&str]) -> Self {
        let eye: Vec<f32> = (0..9).map(|i| if i % 4 == 0 { 10.0 } else { 0.0 }).collect();
        let graph = GraphProto {
            node,
            name: "foreign".into(),
            initializer: vec![floats("w", &[3, 3], &eye), floats("one", &[], &[1.0]), longs("axis", &[1])],
            input: vec![port(input)],
            output: outputs.iter().map(|text| port(text)).collect(),
            ..Default::default()
        };
        let version = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![version("", 17), version("ai.onnx.ml", 2)],
            graph: Some(graph),
            ..Default::default()
        };
        File { model }
    }

    fn constant(mut self, tensor: TensorProto) -> Self {
        self.model.graph.as_mut().unwrap().initializer.push(tensor);
        self
    }

    fn says(mut self, key: &str, value: &str) -> Self {
        self.model.metadata_props.push(StringStringEntryProto { key: key.into(), value: value.into() });
        self
    }

    fn write(&self, folder: &Path) {
        fs::write(folder.join("model.onnx"), self.model.encode_to_vec()).unwrap();
        for (name, colour) in [("red.ppm", [230, 20, 20]), ("green.ppm", [20, 230, 20])] {
            let pixels: Vec<u8> = colour.repeat(8 * 8);
            fs::write(folder.join(name), [&b"P6 8 8 255\n"[..], &pixels].concat()).unwrap();
        }
    }

    fn run(&self, command: &str) -> Option<ProgramOutput> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        run_if_available(folder.path(), command)
    }

    /// The rows `label,index,score,...` of the images, without their names, and standard error.
    #[track_caller]
    fn rows(&self, more: &str) -> Option<(Vec<String>, String)> {
        let output = self.run(&format!("{CLASSIFY} {more}"))?;
        assert_eq!(output.code, 0, "{}", output.err);
        let rows = output.out.lines().skip(1).map(|line| line.split_once(',').unwrap().1.to_string());
        Some((rows.collect(), output.err))
    }

    /// The score of red for the red image and for the green one, among those of three classes.
    #[track_caller]
    fn red(&self, more: &str) -> Option<[f64; 2]> {
        let (rows, _) = self.rows(more)?;
        let score = |row: &String| row.split(',').nth(3).unwrap().parse().unwrap();
        Some([score(&rows[0]), score(&rows[1])])
    }

    /// The reason why the file is refused.
    #[track_caller]
    fn refused(&self, more: &str) -> Option<String> {
        let output = self.run(&format!("{CLASSIFY} {more}"))?;
        assert_eq!(output.code, 1, "{}", output.out);
        assert!(output.err.len() < 1000, "{}", output.err);
        Some(output.err)
    }
}

/// The output of a command; `None` where ONNX Runtime is missing.
fn run_if_available(folder: &Path, command: &str) -> Option<ProgramOutput> {
    let output = run(folder, command);
    if output.err.contains("no libonnxruntime") {
        let needed = std::env::var("MILENAS_RUNTIMES").unwrap_or_default();
        assert!(!needed.split(',').any(|name| name == "ort"), "{}", output.err);
        println!("skipped: {}", output.err);
        return None;
    }
    Some(output)
}

const X: &str = "x FLOAT batch 3 8 8";
const Y: &[&str] = &["y FLOAT batch 3"];

/// Softmax of ten times the mean colour of the red image.
fn softmax() -> f64 {
    let [high, low] = [230.0, 20.0].map(|byte: f64| (10.0 * byte / 255.0).exp());
    high / (high + 2.0 * low)
}

#[track_caller]
fn assert_near(found: Option<[f64; 2]>, expected: [f64; 2], tolerance: f64) {
    let Some(found) = found else { return };
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart <= tolerance, "{found:?}, expected {expected:?}");
}

#[test]
fn probabilities_are_taken_as_they_are_however_they_are_made() {
    let soft = || node("Softmax", &["l"], "p", vec![int("axis", 1)]);
    let spelled = vec![
        node("Exp", &["l"], "e", vec![]),
        node("ReduceSum", &["e", "axis"], "s", vec![int("keepdims", 1)]),
        node("Div", &["e", "s"], "y", vec![]),
    ];
    let expected = [softmax(), (1.0 - softmax()) / 2.0];
    for more in [
        vec![soft(), node("Mul", &["p", "one"], "y", vec![])],
        vec![soft(), node("Identity", &["p"], "y", vec![])],
        spelled,
        vec![node("LogSoftmax", &["l"], "y", vec![int("axis", 1)])],
        vec![
            soft(),
            node("Unsqueeze", &["p", "axis"], "u", vec![]),
            node("Squeeze", &["u", "axis"], "y", vec![]),
        ],
        vec![node("Identity", &["l"], "y", vec![])],
    ] {
        assert_near(File::new(X, Y, more).red(""), expected, 1e-5);
    }
}

#[test]
fn sigmoids_are_independent_in_every_command() {
    let file = File::new(X, Y, vec![node("Sigmoid", &["l"], "y", vec![])]);
    let p = |byte: f64| 1.0 / (1.0 + (-10.0 * byte / 255.0).exp());
    assert_near(file.red(""), [p(230.0), p(20.0)], 1e-5);
    let native = tempfile::tempdir().unwrap();
    file.write(native.path());
    let rows = run(native.path(), &CLASSIFY.replace(" --runtime ort", "")).out;
    let scores: Vec<f64> =
        rows.lines().skip(1).map(|row| row.split(',').nth(4).unwrap().parse().unwrap()).collect();
    assert_near(Some([scores[0], scores[1]]), [p(230.0), p(20.0)], 1e-5);
    let written = vec![
        node("Neg", &["l"], "n", vec![]),
        node("Exp", &["n"], "e", vec![]),
        node("Add", &["e", "one"], "s", vec![]),
        node("Reciprocal", &["s"], "y", vec![]),
    ];
    assert_near(File::new(X, Y, written).red(""), [p(230.0), p(20.0)], 1e-5);

    // Scores that are all zero are measured too, and the confidence is the score.
    let zero = File::new(X, Y, vec![node("Sub", &["l", "l"], "d", vec![]), node("Abs", &["d"], "y", vec![])]);
    for (file, confidence) in [(file, p(230.0)), (zero, 0.0)] {
        let folder = tempfile::tempdir().unwrap();
        file.write(folder.path());
        for part in ["train", "test"] {
            for (class, name) in [("a", "red.ppm"), ("b", "green.ppm"), ("c", "red.ppm")] {
                let to = folder.path().join("data").join(part).join(class);
                fs::create_dir_all(&to).unwrap();
                fs::copy(folder.path().join(name), to.join("1.ppm")).unwrap();
            }
        }
        fs::write(folder.path().join("names.txt"), "a\nb\nc\n").unwrap();
        let command = "milenas-infer evaluate model.onnx data --runtime ort --mean 0 --std 1 --resize stretch \
                       --labels names.txt --json --compare model.onnx";
        let Some(output) = run_if_available(folder.path(), command) else { return };
        assert_eq!(output.code, 0, "{}", output.err);
        let json: serde_json::Value = serde_json::from_str(&output.out).unwrap();
        let right = json["top1"].as_f64().unwrap();
        let error = json["calibration_error"].as_f64().unwrap();
        assert!((error - (confidence - right).abs()).abs() < 1e-5, "{}", output.out);
        assert_eq!(json["comparison"]["largest_difference"], 0.0);
    }
}

#[test]
fn one_score_is_that_of_the_second_of_two_classes() {
    let column = || floats("column", &[3, 1], &[5.0, -5.0, 0.0]);
    let one = |more: Vec<NodeProto>| {
        let first = node("MatMul", &["m", "column"], if more.is_empty() { "y" } else { "c" }, vec![]);
        let nodes = [vec![first], more].concat();
        File::new(X, &["y FLOAT batch 1"], nodes).constant(column())
    };
    let p = 1.0 / (1.0 + (-5.0 * 210.0 / 255.0f64).exp());
    for file in [one(vec![]), one(vec![node("Sigmoid", &["c"], "y", vec![])])] {
        let Some((rows, notes)) = file.rows("") else { return };
        assert!(notes.contains("second of two classes"), "{notes}");
        assert!(rows[0].starts_with(&format!("class_1,1,{p:.6}")), "{rows:?}");
        assert!(rows[1].starts_with(&format!("class_0,0,{p:.6}")), "{rows:?}");
    }
    let soft = one(vec![node("Softmax", &["c"], "y", vec![int("axis", 1)])]);
    assert!(soft.refused("").is_none_or(|why| why.contains("softmax of one score")));
}

#[test]
fn the_output_with_scores_is_found_or_asked_for() {
    let wide = || floats("wide", &[3, 7], &[0.5; 21]);
    let two = |first: &str, second: &str| {
        let outputs = [format!("{first} FLOAT batch 7"), format!("{second} FLOAT batch 3")];
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let nodes =
            vec![node("MatMul", &["m", "wide"], first, vec![]), node("Identity", &["l"], second, vec![])];
        File::new(X, &outputs, nodes).constant(wide())
    };
    let expected = [softmax(), (1.0 - softmax()) / 2.0];
    assert_near(two("embedding", "logits").red(""), expected, 1e-5);
    let unclear = two("first", "other");
    assert!(unclear.refused("").is_none_or(|why| {
        why.contains("`first` FLOAT [?, 7], `other` FLOAT [?, 3]") && why.contains("--output-name")
    }));
    assert_near(unclear.red("--output-name other"), expected, 1e-5);
    assert!(unclear.refused("--output-name third").is_none_or(|why| why.contains("no output `third`")));

    let index = File::new(
        X,
        &["y INT64 batch"],
        vec![node("ArgMax", &["l"], "y", vec![int("axis", 1), int("keepdims", 0)])],
    );
    assert!(index.refused("").is_none_or(|why| why.contains("index of a class")));
    let maps = File::of(vec![node("Identity", &["x"], "y", vec![])], X, &["y FLOAT batch 3 8 8"]);
    assert!(maps.refused("").is_none_or(|why| why.contains("[?, 3, 8, 8]")));
    // The shape shows only in the trial.
    let open = File::of(vec![node("Identity", &["x"], "y", vec![])], X, &["y FLOAT batch a b c"]);
    assert!(open.refused("").is_none_or(|why| why.contains("[1, 3, 8, 8]")));
}

#[test]
fn scores_by_name_are_read() {
    let names = attribute("classlabels_strings", |a| {
        a.strings = ["crimson", "emerald", "navy"].map(|name| name.as_bytes().to_vec()).to_vec();
        a.set_type(AttributeType::Strings);
    });
    let zip = NodeProto { domain: "ai.onnx.ml".into(), ..node("ZipMap", &["p"], "loss", vec![names]) };
    let mut file =
        File::new(X, &["loss FLOAT batch"], vec![node("Softmax", &["l"], "p", vec![int("axis", 1)]), zip]);
    let wrapped = |value| Some(Box::new(TypeProto { value: Some(value), ..Default::default() }));
    let tensor =
        |kind: DataType| type_proto::Tensor { elem_type: kind as i32, shape: Some(Default::default()) };
    let value_type = wrapped(type_proto::Value::TensorType(tensor(DataType::Float)));
    let map = type_proto::Value::MapType(type_proto::Map { key_type: DataType::String as i32, value_type });
    let list = type_proto::Value::SequenceType(type_proto::Sequence { elem_type: wrapped(map) });
    file.model.graph.as_mut().unwrap().output[0].r#type = wrapped(list).map(|boxed| *boxed);
    let Some(output) = file.run(CLASSIFY) else { return };
    assert_eq!(output.code, 0, "{}", output.err);
    let rows: Vec<&str> = output.out.lines().skip(1).collect();
    assert!(rows[0].starts_with(&format!("red.ppm,crimson,0,{:.6}", softmax())), "{rows:?}");
    assert!(rows[1].starts_with("green.ppm,emerald,1,"), "{rows:?}");
}

#[test]
fn inputs_of_every_layout_and_type_are_fed() {
    let soft = |from: &str, to: &str| node("Softmax", &[from], to, vec![int("axis", 1)]);
    let expected = [softmax(), (1.0 - softmax()) / 2.0];
    let channels_last = || {
        vec![
            node("Transpose", &["x"], "t", vec![ints("perm", &[0, 3, 1, 2])]),
            node("GlobalAveragePool", &["t"], "g", vec![]),
            node("Flatten", &["g"], "m", vec![]),
            node("MatMul", &["m", "w"], "l", vec![]),
            soft("l", "y"),
        ]
    };
    assert_near(File::of(channels_last(), "x FLOAT batch 8 8 3", Y).red(""), expected, 1e-5);
    assert_near(File::of(channels_last(), "x FLOAT b h w c", Y).red("--size 8"), expected, 1e-5);
    let half = || {
        vec![
            node("Cast", &["x"], "f", vec![int("to", 1)]),
            node("GlobalAveragePool", &["f"], "g", vec![]),
            node("Flatten", &["g"], "m", vec![]),
            node("MatMul", &["m", "w"], "l", vec![]),
            soft("l", "p"),
            node("Cast", &["p"], "y", vec![int("to", 10)]),
        ]
    };
    assert_near(File::of(half(), "x FLOAT16 batch 3 8 8", &["y FLOAT16 batch 3"]).red(""), expected, 2e-3);
    let mut double = half();
    double[5] = node("Cast", &["p"], "y", vec![int("to", 11)]);
    assert_near(File::of(double, "x DOUBLE batch 3 8 8", &["y DOUBLE batch 3"]).red(""), expected, 1e-5);
    // Bytes of planes: the scale is the file's own.
    let bytes = vec![
        node("Cast", &["x"], "f", vec![int("to", 1)]),
        node("GlobalAveragePool", &["f"], "g", vec![]),
        node("Flatten", &["g"], "y", vec![]),
    ];
    let file = File::of(bytes, "x UINT8 batch 3 8 8", Y);
    let command = "milenas-infer classify model.onnx red.ppm --runtime ort --resize stretch --all-scores \
                   --outputs-are probabilities";
    if let Some(output) = file.run(command) {
        assert!(
            output.out.contains("red.ppm,class_0,0,230.000000,230.000000,20.000000,20.000000"),
            "{}{}",
            output.out,
            output.err
        );
    }
}

#[test]
fn a_batch_inside_the_file_is_noticed() {
    let baked = vec![
        node("GlobalAveragePool", &["x"], "g", vec![]),
        node("Reshape", &["g", "shape"], "m", vec![]),
        node("MatMul", &["m", "w"], "l", vec![]),
        node("Softmax", &["l"], "y", vec![int("axis", 1)]),
    ];
    let file = File::of(baked, X, Y).constant(longs("shape", &[1, 3]));
    let Some((rows, notes)) = file.rows("") else { return };
    assert_eq!(rows.len(), 2);
    assert!(notes.contains("one by one") && !notes.contains("onnxruntime_src"), "{notes}");
    // Columns in place of rows.
    let turned = vec![node("Transpose", &["l"], "y", vec![ints("perm", &[1, 0])])];
    let file = File::new(X, &["y FLOAT a b"], turned);
    assert_near(file.red(""), [softmax(), (1.0 - softmax()) / 2.0], 1e-5);
}

/// The native runtime names what it lacks in a few words, however many nodes that is.
#[test]
fn what_the_native_runtime_lacks_is_told_in_few_words() {
    let name = |i: usize| format!("/features/features.{i}/block/activation/a_long_name_of_a_node_{i}");
    let mut nodes =
        vec![node("GlobalAveragePool", &["x"], "g", vec![]), node("Flatten", &["g"], &name(0), vec![])];
    for (i, operator) in (1..60).zip(["Softplus", "Selu", "Erf", "Tan", "Sin", "Cos", "Exp"].iter().cycle()) {
        nodes.push(NodeProto { name: name(i), ..node(operator, &[&name(i - 1)], &name(i), vec![]) });
    }
    nodes.push(node("Identity", &[&name(59)], "y", vec![]));
    let folder = tempfile::tempdir().unwrap();
    File::of(nodes, X, Y).write(folder.path());
    let output = run(folder.path(), "milenas-infer classify model.onnx red.ppm");
    assert!(output.code == 1 && output.err.len() <= 400, "{}: {}", output.err.len(), output.err);
    assert_eq!(output.err.matches("model.onnx").count(), 1, "{}", output.err);
    assert!(output.err.contains("help: --runtime ort"), "{}", output.err);
}

#[test]
fn metadata_is_the_recipe() {
    let soft = vec![node("Softmax", &["l"], "y", vec![int("axis", 1)])];
    let file = File::new("x FLOAT batch 3 h w", Y, soft)
        .says("names", "{0: 'r', 1: \"it's green\", 2: 'b, blue'}")
        .says("task", "classify")
        .says("imgsz", "[8, 8]");
    let Some(output) = file.run("milenas-infer classify model.onnx green.ppm --runtime ort") else { return };
    assert!(output.out.contains("green.ppm,it's green,1,"), "{}{}", output.out, output.err);
    let output = file.run("milenas-infer inspect model.onnx --runtime ort --json").unwrap();
    let json: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    let part = |name: &str| {
        let found = json["parts"].as_array().unwrap().iter().find(|part| part["name"] == name).unwrap();
        [&found["value"], &found["origin"]].map(|text| text.as_str().unwrap().to_string())
    };
    assert_eq!(part("size"), ["8x8", "metadata of ultralytics"]);
    assert_eq!(part("mean"), ["0,0,0", "metadata of ultralytics"]);
    assert_eq!(part("filter"), ["bilinear", "assumed"]);
    assert_eq!(part("outputs-are"), ["probabilities", "the graph"]);
    assert_eq!(json["labels"][2], "b, blue");
    let notes = json["notes"].to_string();
    assert!(notes.contains("(--outputs-are overrides it)") && !notes.contains("setting `"), "{notes}");
}

/// Data in another file is part of the model: rows of other weights do not come into one table.
#[test]
fn external_data_belong_to_the_fingerprint() {
    let mut file = File::new(X, Y, vec![node("Identity", &["l"], "y", vec![])]);
    let graph = file.model.graph.as_mut().unwrap();
    let weight = graph.initializer.iter_mut().find(|tensor| tensor.name == "w").unwrap();
    let data = std::mem::take(&mut weight.raw_data);
    weight.external_data =
        vec![StringStringEntryProto { key: "location".into(), value: "model.data".into() }];
    weight.set_data_location(DataLocation::External);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    file.write(root);
    let shard = |part: &str| format!("{CLASSIFY} --shard {part}/2 -o {part}.csv");
    fs::write(root.join("model.data"), &data).unwrap();
    let Some(first) = run_if_available(root, &shard("0")) else { return };
    assert_eq!(first.code, 0, "{}", first.err);
    assert_eq!(run(root, &shard("1")).code, 0);
    assert_eq!(run(root, "milenas-infer merge 0.csv 1.csv -o all.csv").code, 0);
    let other: Vec<u8> = data.iter().rev().copied().collect();
    fs::write(root.join("model.data"), &other).unwrap();
    run(root, &shard("1"));
    let merged = run(root, "milenas-infer merge 0.csv 1.csv -o all.csv");
    assert!(merged.code == 1 && merged.err.contains("model (SHA-256)"), "{}", merged.err);
    fs::remove_file(root.join("model.data")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", root.join("model.data")).unwrap();
    let device = run(root, &shard("1"));
    assert!(device.code == 1 && device.err.contains("expected a file below"), "{}", device.err);
    fs::remove_file(root.join("model.data")).unwrap();
    let missing = run(root, &shard("1"));
    assert!(missing.code == 1 && missing.err.contains("model.data"), "{}", missing.err);
}
