//! Wrong input gets one clear message and exit status 1, and leaves no file behind: the real binaries, by table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use milenas_export::onnx::schema::{ModelProto, type_proto};
use milenas_models::Genotype;
use milenas_tests::{TINY, binary, run, succeed};
use prost::Message;

/// A complete PNG of 1x1.
const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0,
    1, 8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 10, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0x60, 0,
    0, 0, 2, 0, 1, 0x48, 0xaf, 0xa4, 0x71, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

/// Makes the wrong inputs in `folder`.
fn prepare(folder: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    succeed(folder, &format!("milenas-search train --genotype DARTS_V2 --data digits --out good {TINY}"));
    succeed(folder, "milenas-export good/weights.safetensors -o good.onnx");
    let weights = fs::read(folder.join("good/weights.safetensors")).unwrap();
    let onnx = fs::read(folder.join("good.onnx")).unwrap();
    write("cut.safetensors", &weights[..weights.len() / 2]);
    write("cut.onnx", &onnx[..onnx.len() / 2]);
    write("noise.onnx", b"this is not a model");
    let mut open = ModelProto::decode(onnx.as_slice()).unwrap();
    let input = open.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap();
    let Some(type_proto::Value::TensorType(tensor)) = &mut input.value else { panic!("a tensor") };
    tensor.shape.as_mut().unwrap().dim[2..].iter_mut().for_each(|dim| dim.value = None);
    // Its card would say the size.
    open.metadata_props.clear();
    write("open.onnx", &open.encode_to_vec());
    write("images/cats/1.png", b"x");
    fs::create_dir_all(folder.join("images/dogs")).unwrap();
    // Two classes of which one cannot be read.
    for name in ["broken/Train/cats/1.png", "broken/Test/cats/1.png", "broken/Test/dogs/1.png"] {
        write(name, PNG);
    }
    write("broken/Train/dogs/1.png", b"x");
    let later = Genotype::named("DARTS_V2").unwrap().to_json().replacen(
        "[\"sep_conv_3x3\", 1]",
        "[\"sep_conv_3x3\", 4]",
        1,
    );
    write("later.json", later.as_bytes());
    write("unknown.json", later.replacen("sep_conv_3x3", "sep_conv_3x4", 1).as_bytes());
    write("rows.csv", b"path,label,index,score,error\n");
    write("keys.toml", b"[search]\nepoch = 3\n");
    write("names.txt", b"ant\nbee\n");
    // The last number of the last tensor.
    let mut nan = weights.clone();
    let end = nan.len() - 4;
    nan[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    write("nan.safetensors", &nan);
    // The same tensors under another genotype's card; the names have one length, so the header keeps its own.
    let (from, to) = (b"sep_conv_3x3", b"sep_conv_5x5");
    let at = weights.windows(from.len()).position(|w| w == from).unwrap();
    let mut other = weights;
    other[at..at + to.len()].copy_from_slice(to);
    write("other.safetensors", &other);
}

/// Command, and what its message says.
const WRONG: &[(&str, &[&str])] = &[
    ("milenas-search run --data nowhere --out new", &["nowhere", "digits, cifar10:DIR"]),
    ("milenas-search run --data images --out new", &["dogs"]),
    (
        "milenas-search run --data broken --out new",
        &["none of the 1 training images of the class dogs", "broken/Train/dogs/1.png", "remove its folders"],
    ),
    (
        "milenas-search run --data digits --out new --set search.epoch=3",
        &["search.epoch`", "did you mean `search.epochs`?"],
    ),
    (
        "milenas-search run --data digits --out new --config keys.toml",
        &["search.epoch`", "did you mean `search.epochs`?"],
    ),
    ("milenas-search run --data digits --out new --config none.toml", &["none.toml"]),
    ("milenas-search run --data digits --out new --preset papr", &["papr", "did you mean `paper`?"]),
    ("milenas-search run --data digits --out new --strategy milena", &["did you mean `milenas`?"]),
    (
        "milenas-search run --data digits --out new --partial-channels 3",
        &["partial_channels", "divisor of 16 channels: 1, 2, 4, 8, 16"],
    ),
    ("milenas-search run --data digits --out new --device cuda:99", &["cuda", "help: ", "--device cpu"]),
    (
        "milenas-search run --data digits --out new --space nasbench201 --device cuda",
        &["nasbench201 cannot be searched on a GPU", "space darts", "--device cpu"],
    ),
    (
        "milenas-search run --data digits --out new --partial-channels 4 --device cuda:1,tf32",
        &["search.partial_channels: 4 cannot", "whole states"],
    ),
    (
        "milenas-search train --genotype DARTS_V2 --data digits --out new --device cuda:99",
        &["cuda", "help: ", "--device cpu"],
    ),
    (
        "milenas-search run --data digits --out new --strategy naswot --device cuda",
        &["--strategy naswot scores on the CPU", "omit --device"],
    ),
    (
        "milenas-search run --data digits --out new --resume",
        &["new holds no run", "config.toml", "omit --resume"],
    ),
    (
        "milenas-search train --genotype DARTS_V2 --data digits --out new --resume",
        &["new holds no run", "config.toml", "omit --resume"],
    ),
    (
        "milenas-search train --genotype DARTS_V2 --data digits --out good --resume --seeds 2",
        &["good holds no run", "seeds.toml", "omit --resume"],
    ),
    ("milenas-search run --data cifar10:nowhere --out new", &["nowhere", "data fetch cifar10"]),
    (
        "milenas-search train --genotype later.json --data digits --out new",
        &["later.json", "node 2, edge 1", "0 to 1"],
    ),
    (
        "milenas-search train --genotype unknown.json --data digits --out new",
        &["sep_conv_3x4", "did you mean `sep_conv_3x3`?"],
    ),
    ("milenas-search train --genotype DARTS_V9 --data digits --out new", &["did you mean `DARTS_V"]),
    (
        "milenas-search train --genotype DARTS_V2 --data digits --out good",
        &["good already holds weights.safetensors"],
    ),
    ("milenas-search eval --weights cut.safetensors --data digits", &["cut.safetensors", "truncated"]),
    (
        "milenas-search eval --weights other.safetensors --data digits",
        &["other.safetensors", "shape [2, 1, 3, 3]", "[2, 1, 5, 5]"],
    ),
    (
        "milenas-search eval --weights nan.safetensors --data digits",
        &["nan.safetensors, `", "is NaN, expected finite", "help: "],
    ),
    ("milenas-export nan.safetensors -o new.onnx", &["nan.safetensors, `", "is NaN, expected finite"]),
    ("milenas-search score --data digits --metric naswot,naswot", &["--metric is naswot twice"]),
    (
        "milenas-search score --data digits --score naswot+live_mac",
        &["live_mac", "did you mean `live_macs`?"],
    ),
    ("milenas-search score --data digits --score naswot+naswot", &["naswot+naswot is naswot twice"]),
    (
        "milenas-search score --data digits --metric naswot,aggregate",
        &["aggregate beside other metrics", "--score"],
    ),
    ("milenas-search score --data digits --sample 15626", &["nasbench201 has 15625 architectures"]),
    ("milenas-search bench step --threads 0", &["--threads", "1..=1024"]),
    (
        "milenas-search run --data digits --out new --seed 9223372036854775808",
        &["--seed", "0..=9223372036854775807"],
    ),
    ("milenas-search run --data digits", &["required arguments"]),
    ("milenas-search report broken", &["broken", "no run in this folder or its subfolders. help: "]),
    (
        "milenas-search run --data digits --out new --strategy naswot --lambda 2",
        &["`search.lambda` has no effect on naswot", "milenas-2nd"],
    ),
    (
        "milenas-search run --data digits --out new --time-budget 0s",
        &["search.stop.time_budget", "leave it empty"],
    ),
    ("milenas-export cut.safetensors -o new.onnx", &["cut.safetensors", "truncated"]),
    ("milenas-infer classify cut.onnx good.onnx -o new.csv", &["cut.onnx"]),
    ("milenas-infer evaluate noise.onnx digits", &["noise.onnx"]),
    (
        "milenas-infer classify good.onnx images -o new.parquet",
        &["without Parquet", "cargo feature `parquet`", "csv or jsonl"],
    ),
    ("milenas-infer classify good.onnx nowhere.png -o new.csv", &["nowhere.png"]),
    (
        "milenas-infer classify good.onnx 1.png -o new.csv --runtime ort --ort-lib nowhere.so",
        &["nowhere.so is not a file", "pip install onnxruntime"],
    ),
    (
        "milenas-infer classify good.onnx 1.png -o new.csv --runtime ort --ort-lib noise.onnx",
        &["noise.onnx", "failed to load", "pip install onnxruntime"],
    ),
    (
        "milenas-infer classify good.onnx 1.png -o new.csv --runtime candle-onnx",
        &["MaxPool", "--target candle-onnx"],
    ),
    (
        "milenas-infer classify good.onnx 1.png -o new.csv --runtime candle-onnx --features",
        &["no features", "--runtime native"],
    ),
    (
        "milenas-infer classify good.onnx 1.png -o new.csv --labels keys.toml",
        &["--labels keys.toml", "expected one name a line"],
    ),
    (
        "milenas-infer classify good.onnx 1.png -o new.csv --labels names.txt",
        &["--labels has 2 names, the network 10 classes"],
    ),
    ("milenas-infer classify good.onnx 1.png -o new.csv --size 9", &["good.onnx", "--size is 9"]),
    (
        "milenas-infer classify good.onnx 1.png -o new.csv --std 1,2",
        &["std", "one finite number per channel"],
    ),
    (
        "milenas-infer classify open.onnx 1.png -o new.csv --runtime candle-onnx",
        &["open.onnx", "of any height", "--size HxW"],
    ),
    ("milenas-infer evaluate cut.onnx digits --runtime candle-onnx", &["cut.onnx"]),
    (
        "milenas-export good/weights.safetensors -o good/weights.safetensors",
        &["-o is good/weights.safetensors", "another file than the source"],
    ),
    ("milenas-export DARTS_V2 -o new.onnx --report ./new.onnx", &["--report is", "another file than -o"]),
    ("milenas-export DARTS_V2 -o new.onnx --report nowhere/r.json", &["nowhere"]),
    ("milenas-export DARTS_V2 -o new.onnx --triton keys.toml", &["--triton is keys.toml", "folder"]),
    ("milenas-export good.onnx -o new.onnx", &["good.onnx", "milenas-export inspect"]),
    (
        "milenas-export good/weights.safetensors -o new.onnx --channels 4",
        &["its size is fixed in the file", "omit --channels"],
    ),
    (
        "milenas-export good/weights.safetensors -o new.onnx --int8 --calibrate digits --accuracy-gate nan",
        &["--accuracy-gate", "from 0 to 100"],
    ),
    (
        "milenas-infer classify good.onnx 1.png -o good.onnx",
        &["good.onnx", "unknown file extension", "--format"],
    ),
    (
        "milenas-infer classify good.onnx 1.png -o good/../good.onnx --format csv",
        &["another file than the model"],
    ),
    (
        "milenas-infer classify good.onnx keys.toml -o keys.toml --format csv",
        &["-o is keys.toml", "another file than an input"],
    ),
    ("milenas-infer classify good.onnx 1.png --ort-lib noise.onnx", &["--ort-lib", "--runtime ort"]),
    ("milenas-infer classify good.onnx 1.png --threshold nan", &["--threshold", "expected a number"]),
    ("milenas-infer classify good.onnx 1.png --features --format text", &["--features", "csv or jsonl"]),
    ("milenas-infer merge rows.csv keys.toml --format csv -o rows.csv", &["another file than a part"]),
    ("milenas-infer evaluate good.onnx digits --report good.onnx", &["another file than the model"]),
    ("milenas-infer bench good.onnx --threads 100000", &["--threads", "1..=1024"]),
    (
        "milenas-infer classify good.onnx --list new.csv.run -o new.csv",
        &["OUTPUT.run is new.csv.run", "--list"],
    ),
    ("milenas-infer merge rows.csv -o rows.csv.done", &["another file than the receipt of a part"]),
    ("milenas-export good/weights.safetensors -o good", &["-o is good, a folder"]),
    ("milenas-export good/weights.safetensors -o /dev/null", &["-o is /dev/null, a device"]),
    ("milenas-export inspect good.onnx --channels 3", &["good.onnx", "its size is fixed in the file"]),
    ("milenas-search score later.json --data digits --out later.json", &["another file than a genotype"]),
    (
        "milenas-search eval --weights good/weights.safetensors --data digits --predictions good/weights.safetensors",
        &["--predictions is", "another file than --weights"],
    ),
    ("milenas-search report good --out good/genotype.json", &["another file than a file of a run"]),
];

/// What lies in a folder and below it, and when it was written.
fn listing(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, kind) = entry.map(|e| (e.path(), e.metadata().unwrap())).unwrap();
        found.push((path.clone(), kind.modified().unwrap()));
        if kind.is_dir() {
            found.extend(listing(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn every_wrong_input_is_explained_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let before = listing(folder.path());
    for (command, parts) in WRONG {
        let output = run(folder.path(), command);
        assert_eq!(output.code, 1, "{command}\n{}{}", output.out, output.err);
        let message = output.err.lines().find(|line| line.starts_with("error: "));
        let message = message.unwrap_or_else(|| panic!("{command}: no message in\n{}", output.err));
        for part in *parts {
            assert!(message.contains(part), "{command}: `{part}` is not in\n{message}");
        }
        assert_eq!(output.out, "", "{command}");
        assert_eq!(listing(folder.path()), before, "{command} left something behind");
    }
}

/// First runs that are refused late, what they report, and a corrected command.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "milenas-search run --data digits --strategy random --max-params 1",
        "none of 1000 architectures has at most",
        "milenas-search run --data digits",
    ),
    (
        "milenas-search run --data digits --strategy random --max-params 1",
        "none of 1000 architectures has at most",
        "milenas-search train --genotype DARTS_V2 --data digits",
    ),
    (
        "milenas-search train --genotype DARTS_V2 --data nowhere --seeds 2",
        "nowhere",
        "milenas-search train --genotype DARTS_V2 --data digits --seeds 2",
    ),
    (
        "milenas-search train --genotype DARTS_V2 --data digits --set train.weights.lr=1e30 --set train.weights.clip=0 --seeds 2",
        "the training loss",
        "milenas-search train --genotype DARTS_V2 --data digits --seeds 2",
    ),
    (
        "milenas-search train --genotype DARTS_V2 --data digits --set train.weights.lr=1e30 --set train.weights.clip=0",
        "the training loss",
        "milenas-search run --data digits",
    ),
    (
        "milenas-search run --data digits --set search.channels=65536",
        "memory",
        "milenas-search run --data digits",
    ),
];

/// In a folder that does not exist, and in one that holds a file of the user.
#[test]
fn a_refused_first_run_leaves_its_folder_to_the_corrected_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (i, (refused, expected, corrected)) in REFUSED.iter().enumerate() {
        let out = format!("runs{i}/{i}");
        if i % 2 == 1 {
            fs::create_dir_all(root.join(&out)).unwrap();
            fs::write(root.join(&out).join("notes.txt"), "mine").unwrap();
        }
        let names = || -> Vec<PathBuf> { listing(root).into_iter().map(|(path, _)| path).collect() };
        let before = names();
        // `random` has no epochs of its own.
        let tiny =
            if refused.contains("random") { TINY.replace("--set search.epochs=1 ", "") } else { TINY.into() };
        let output = run(root, &format!("{refused} --out {out} {tiny}"));
        assert!(output.code == 1 && output.err.contains(expected), "{refused}: {}", output.err);
        assert_eq!(names(), before, "{refused} left something behind");
        succeed(root, &format!("{corrected} --out {out} {TINY}"));
        assert_eq!(root.join(&out).join("notes.txt").exists(), i % 2 == 1, "{corrected}");
    }
}

/// As `| head -1` does.
#[test]
fn a_reader_that_leaves_is_no_error() {
    for arguments in [["data", "info", "digits"], ["bench", "step", "--help"]] {
        let mut command = Command::new(binary("milenas-search"));
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Standard output with no room, or with nobody behind it: a failure or none, and no panic.
#[cfg(target_os = "linux")]
#[test]
fn a_full_output_is_told_and_a_closed_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    for line in [
        "milenas-infer evaluate good.onnx digits",
        "milenas-infer evaluate good.onnx digits --compare good.onnx --json",
        "milenas-infer bench good.onnx --runs 1",
        "milenas-infer classify good.onnx good.onnx",
        "milenas-export inspect good.onnx",
        "milenas-export DARTS_V2 --channels 2 --layers 3 -o new.onnx",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let start = |out: Stdio, err: Stdio| {
            let mut command = Command::new(binary(words[0]));
            command.args(&words[1..]).current_dir(folder.path()).stdout(out).stderr(err).spawn().unwrap()
        };
        let full = || fs::File::options().write(true).open("/dev/full").unwrap();
        let done = start(full().into(), Stdio::piped()).wait_with_output().unwrap();
        let output = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(1) && output.contains("error: "), "{line}: {output}");
        let mut child = start(Stdio::piped(), full().into());
        drop(child.stdout.take());
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 2)), "{line}: {code:?}");
    }
}

/// Scripts take 2 for good: it must not say that an option is wrong.
#[test]
fn a_wrong_option_is_a_failure_and_help_is_none() {
    for program in ["milenas-search", "milenas-infer", "milenas-export"] {
        for (option, code) in [("--wrong", 1), ("", 1), ("--help", 0), ("--version", 0)] {
            assert_eq!(run(Path::new("."), &format!("{program} {option}")).code, code, "{program} {option}");
        }
    }
}

#[test]
fn a_broken_image_costs_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    // The model brings it to its own size.
    let png = PNG;
    fs::write(folder.path().join("a.png"), png).unwrap();
    fs::write(folder.path().join("b.png"), &png[..40]).unwrap();
    let output = run(folder.path(), "milenas-infer classify good.onnx a.png b.png images/cats/1.png a.png");
    assert_eq!(output.code, 2, "{}", output.err);
    let rows: Vec<&str> = output.out.lines().collect();
    assert_eq!(rows[0], "path,label,index,score,error");
    assert!(rows[1].starts_with("a.png,") && rows[1].ends_with(','), "{rows:?}");
    assert!(rows[2].starts_with("b.png,,,,") && rows[2].len() > 12, "{rows:?}");
    assert!(rows[3].starts_with("images/cats/1.png,,,,"), "{rows:?}");
    assert_eq!(rows[4], rows[1]);
}

#[test]
fn the_reason_of_the_system_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), "milenas-search run --data digits --out new --config none.toml");
    assert_eq!(output.err.matches("No such file").count(), 1, "{}", output.err);
}

#[test]
fn what_can_be_done_but_is_hardly_meant_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (layers, expected) in
        [(1, "the only cell is a reduction cell"), (2, "both cells are reduction cells"), (3, "")]
    {
        let command =
            format!("milenas-search run --data digits --out s{layers} {TINY} --set search.layers={layers}");
        let output = succeed(root, &command);
        let warned = output.err.contains("warning: `search.layers` is");
        assert!(warned == (layers < 3) && output.err.contains(expected), "{}", output.err);
    }
    let none = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|";
    let cut = "|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|";
    let through = "|none~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|";
    for (i, (cell, dead)) in [(none, true), (cut, true), (through, false)].into_iter().enumerate() {
        let output =
            succeed(root, &format!("milenas-search train --genotype {cell} --data digits --out n{i} {TINY}"));
        let warned = output.err.contains("warning: the normal cell passes no signal");
        assert_eq!(warned, dead, "{cell}: {}", output.err);
    }
}

#[test]
fn a_random_architecture_is_of_the_space_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for (space, begins) in [("nasbench201", "|"), ("darts", "\"Genotype(")] {
        let size = "--layers 3 --channels 2 --batch 8 --data digits";
        let output = succeed(folder.path(), &format!("milenas-search score random:1 --space {space} {size}"));
        assert!(output.out.lines().nth(1).unwrap().starts_with(begins), "{}", output.out);
    }
    let train = "milenas-search train --data digits --set train.epochs=1 --set train.steps=1 --set train.channels=2 \
                 --set train.layers=3 --set augment.flip=false";
    for (genotype, space) in [
        ("random:1", "darts"),
        ("random:1 --set search.space=darts-s2", "darts-s2"),
        ("random:nasbench201:1", "nasbench201"),
    ] {
        let out = format!("out-{space}");
        succeed(folder.path(), &format!("{train} --genotype {genotype} --out {out}"));
        let found = fs::read_to_string(folder.path().join(out).join("genotype.json")).unwrap();
        assert!(found.contains(&format!("\"space\": \"{space}\"")), "{found}");
    }
    let output = run(folder.path(), &format!("{train} --genotype random:dart:1 --out no"));
    assert!(output.err.contains("unknown space `dart`, did you mean `darts`?"), "{}", output.err);
}
