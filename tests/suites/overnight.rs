//! Long runs survive what nights bring: kills, broken files, no end of inputs.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use milenas_models::Rng;
use milenas_tests::{TINY, binary, peak_kib, run, succeed};

/// Makes a folder with `model.onnx`, small images in `images`, two of them broken, and `list`, which names them `rounds`
/// times.
fn prepare(rounds: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    succeed(root, &format!("milenas-search train --genotype DARTS_V2 --data digits --out network {TINY}"));
    succeed(root, "milenas-export network/weights.safetensors -o model.onnx");
    fs::create_dir(root.join("images")).unwrap();
    let mut names = Vec::new();
    for i in 0..50u8 {
        let pixels: Vec<u8> = (0..192u8).map(|p| p.wrapping_mul(i).wrapping_add(i)).collect();
        let mut bytes = [b"P6 8 8 255\n", &pixels[..]].concat();
        if i % 25 == 7 {
            bytes.truncate(60);
        }
        names.push(format!("images/{i:02}.ppm"));
        fs::write(root.join(&names[usize::from(i)]), bytes).unwrap();
    }
    names.push("images/missing.ppm".into());
    let mut list = File::create(root.join("list")).unwrap();
    let round = names.join("\n") + "\n";
    (0..rounds).for_each(|_| list.write_all(round.as_bytes()).unwrap());
    folder
}

fn start(root: &Path, options: &str) -> Child {
    let mut command = Command::new(binary("milenas-infer"));
    command.args("classify model.onnx --batch 8".split(' ')).args(options.split(' '));
    command.current_dir(root).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn finish(root: &Path, options: &str) -> Duration {
    let start_time = Instant::now();
    assert_eq!(start(root, options).wait().unwrap().code(), Some(2), "some images are broken");
    start_time.elapsed()
}

#[test]
fn killed_twenty_times_it_ends_as_if_nothing_had_happened() {
    let folder = prepare(200);
    let root = folder.path();
    for (name, options) in
        [("a.csv", "--top-k 3"), ("a.jsonl", "--all-scores"), ("skip.csv", "--on-error skip")]
    {
        let whole = finish(root, &format!("--list list {options} -o whole-{name}"));
        let expected = fs::read(root.join(format!("whole-{name}"))).unwrap();
        let mut rng = Rng::new(7, name);
        let (mut kills, mut sizes) = (0, vec![0]);
        while kills < 20 {
            let mut child = start(root, &format!("--list list {options} -o {name} --resume"));
            std::thread::sleep(whole.mul_f32(rng.unit() / 8.0));
            kills += usize::from(child.try_wait().unwrap().is_none());
            // SIGKILL on Unix.
            child.kill().unwrap();
            child.wait().unwrap();
            sizes.push(fs::metadata(root.join(name)).map_or(0, |found| found.len()));
        }
        finish(root, &format!("--list list {options} -o {name} --resume"));
        assert!(fs::read(root.join(name)).unwrap() == expected, "{name} after sizes {sizes:?}");
        sizes.dedup();
        assert!(sizes.len() > 3, "{name} grew between the kills: {sizes:?}");
    }
}

#[test]
fn a_resumed_run_takes_new_images_and_keeps_the_old_rows() {
    let folder = prepare(1);
    let root = folder.path();
    let first = run(root, "milenas-infer classify model.onnx images/03.ppm images/01.ppm -o p.csv");
    assert_eq!(first.code, 0, "{}", first.err);
    let before = fs::read_to_string(root.join("p.csv")).unwrap();
    run(root, "milenas-infer classify model.onnx images -o p.csv --resume");
    let after = fs::read_to_string(root.join("p.csv")).unwrap();
    assert!(after.starts_with(&before) && after.lines().count() == 51, "{after}");
    let output = run(root, "milenas-infer classify model.onnx images -o p.csv --resume --top-k 2");
    assert!(output.code == 1 && output.err.contains("cannot be resumed"), "{}", output.err);
    assert_eq!(fs::read_to_string(root.join("p.csv")).unwrap(), after);
}

/// Another network of the same classes, as `other.onnx`.
fn other(root: &Path) {
    succeed(
        root,
        &format!("milenas-search train --genotype DARTS_V2 --data digits --out other {TINY} --seed 1"),
    );
    succeed(root, "milenas-export other/weights.safetensors -o other.onnx");
}

#[test]
fn rows_of_two_models_or_scores_do_not_meet_in_one_file() {
    let folder = prepare(2);
    let root = folder.path();
    other(root);
    let stopped = run(root, "milenas-infer classify model.onnx images --on-error fail -o p.csv");
    assert_eq!(stopped.code, 1, "{}", stopped.err);
    let before = fs::read(root.join("p.csv")).unwrap();
    for (options, expected) in [
        ("other.onnx", "model (SHA-256) is"),
        ("model.onnx --score logit", "--score is probability, here logit"),
        ("model.onnx --precision bf16", "precision is"),
        ("model.onnx --mean 0.5", "input is"),
    ] {
        let output = run(root, &format!("milenas-infer classify {options} images -o p.csv --resume"));
        assert!(output.code == 1 && output.err.contains(expected), "{options}: {}", output.err);
        assert_eq!(fs::read(root.join("p.csv")).unwrap(), before, "{options}");
    }
    let whole = run(root, "milenas-infer classify model.onnx images -o p.csv --resume");
    assert_eq!(whole.code, 2, "{}", whole.err);
    // Where it cannot be written, the rows are.
    let long = format!("{}.csv", "q".repeat(250));
    let noted = run(root, &format!("milenas-infer classify model.onnx images -o {long}"));
    assert!(noted.code == 2 && noted.err.contains("csv.run: "), "{}", noted.err);
    assert!(fs::read(root.join(long)).unwrap() == fs::read(root.join("p.csv")).unwrap());
    assert!(!root.join("p.csv.run").exists(), "a run that came to its end leaves its rows alone");

    let shard = |i: usize, rest: &str| {
        let output = run(root, &format!("milenas-infer classify --shard {i}/2 -o part-{i}.csv {rest}"));
        assert!(matches!(output.code, 0 | 2), "{}", output.err);
    };
    shard(0, "model.onnx images");
    let again = run(root, "milenas-infer classify --shard 0/2 -o part-0.csv other.onnx images --resume");
    assert!(again.code == 1 && again.err.contains("model (SHA-256)"), "{}", again.err);
    fs::create_dir(root.join("more")).unwrap();
    for i in 0..50 {
        fs::copy(root.join(format!("images/{i:02}.ppm")), root.join(format!("more/{i:03}.ppm"))).unwrap();
    }
    for (rest, expected) in [
        ("other.onnx images", "model (SHA-256) is"),
        ("model.onnx --score logit images", "--score is probability, here logit"),
        ("model.onnx more", "other inputs"),
    ] {
        shard(1, rest);
        let output = run(root, "milenas-infer merge part-0.csv part-1.csv -o no.csv");
        let part = output.err.contains("part-1.csv") && output.err.contains(expected);
        assert!(output.code == 1 && part, "{rest}: {}", output.err);
    }
}

#[test]
fn errors_are_recorded_skipped_or_final() {
    let folder = prepare(1);
    let root = folder.path();
    let rows = |on_error: &str| {
        let output = run(root, &format!("milenas-infer classify model.onnx images --on-error {on_error}"));
        (output.code, output.out.lines().count(), output.err)
    };
    let (code, lines, err) = rows("record");
    assert_eq!((code, lines), (2, 51), "{err}");
    let (code, lines, err) = rows("skip");
    assert_eq!((code, lines), (2, 49), "{err}");
    assert!(err.contains("images/07.ppm: ") && err.contains("2 of them"), "{err}");
    let (code, lines, err) = rows("fail");
    assert_eq!((code, lines), (1, 8), "{err}");
    assert!(err.contains("error: images/07.ppm: ") && err.contains("truncated"), "{err}");
}

#[test]
fn shards_together_are_the_whole_and_an_unfinished_one_is_named() {
    let folder = prepare(3);
    let root = folder.path();
    for ending in ["csv", "jsonl"] {
        let whole = run(root, &format!("milenas-infer classify model.onnx --list list -o whole.{ending}"));
        assert_eq!(whole.code, 2, "{}", whole.err);
        for i in 0..4 {
            let shard = format!("--shard {i}/4 -o part-{i}.{ending}");
            run(root, &format!("milenas-infer classify model.onnx --list list {shard}"));
        }
        let parts = [2, 0, 3, 1].map(|i| format!("part-{i}.{ending}")).join(" ");
        let merged = run(root, &format!("milenas-infer merge {parts} -o merged.{ending}"));
        assert_eq!(merged.code, 2, "{}", merged.err);
        let read = |name: &str| fs::read(root.join(format!("{name}.{ending}"))).unwrap();
        assert!(read("merged") == read("whole"), "{ending}");

        let refused = |parts: &str, expected: &str| {
            let output = run(root, &format!("milenas-infer merge {parts} -o no.{ending}"));
            assert!(output.code == 1 && output.err.contains(expected), "{}", output.err);
            assert!(!root.join(format!("no.{ending}")).exists());
        };
        refused(&parts.replace(&format!("part-3.{ending} "), ""), "3 of 4 shards are given");
        refused(&parts.replace("part-1", "part-0"), "shard 0 is given twice");
        fs::remove_file(root.join(format!("part-2.{ending}.done"))).unwrap();
        refused(&parts, "is not finished");
    }
}

/// As a cluster would run the examples of docs/guide/many-machines.md: the real script, and the command in the real manifest.
#[cfg(unix)]
#[test]
fn the_examples_for_clusters_run() {
    let folder = prepare(1);
    let root = folder.path().to_str().unwrap();
    let whole =
        run(folder.path(), &format!("milenas-infer classify {root}/model.onnx {root}/images -o whole.csv"));
    assert_eq!(whole.code, 2, "{}", whole.err);
    let script = include_str!("../../docs/classify.slurm").to_string();
    let manifest = include_str!("../../docs/classify.yaml");
    let command = manifest.lines().find_map(|line| line.trim().strip_prefix("- milenas-infer")).unwrap();
    let pod =
        format!("milenas-infer{command}").replace("/data/photos", "/data/images").replace("/data", root);
    assert!(
        script.contains("--array=0-7")
            && manifest.contains("completions: 8")
            && manifest.contains("value: \"8\"")
    );
    let binaries = binary("milenas-infer").parent().unwrap().display().to_string();
    let path = format!("{binaries}:{}", std::env::var("PATH").unwrap());
    for (text, index, count) in [
        (script, "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
        (pod, "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ] {
        let out = format!("{root}/out");
        fs::create_dir(&out).unwrap();
        for i in 0..8 {
            let mut shell = Command::new("sh");
            shell.args(["-c", &text]).env("PATH", &path).env(index, i.to_string()).env(count, "8");
            shell.env("SLURM_ARRAY_TASK_MIN", "0").env("MODEL", format!("{root}/model.onnx"));
            shell.env("INPUT", format!("{root}/images")).env("OUT", &out).stderr(Stdio::null());
            assert!(shell.status().unwrap().success(), "{index} {i}");
        }
        let parts: Vec<String> = (0..8).map(|i| format!("out/part-{i}.csv")).collect();
        let merged = run(folder.path(), &format!("milenas-infer merge {} -o merged.csv", parts.join(" ")));
        assert_eq!(merged.code, 2, "{}", merged.err);
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        assert!(read("merged.csv") == read("whole.csv"), "{index}");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn an_evaluation_compares_and_reports() {
    let folder = prepare(1);
    let root = folder.path();
    let output =
        succeed(root, "milenas-infer evaluate model.onnx digits --compare model.onnx --report r.html --json");
    let json: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!((&json["images"], &json["comparison"]["agreement"]), (&360.into(), &1.0.into()));
    assert_eq!(json["comparison"]["largest_difference"], 0.0);
    assert!(json["calibration_error"].as_f64().unwrap() <= 1.0);
    let page = fs::read_to_string(root.join("r.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("Worst mistakes"));
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_inputs() {
    let folder = prepare(400);
    let root = folder.path();
    let few =
        fs::read_to_string(root.join("list")).unwrap().lines().take(2000).collect::<Vec<_>>().join("\n");
    fs::write(root.join("few"), few).unwrap();
    let [few, many] = ["few", "list"].map(|list| {
        peak_kib(start(root, &format!("--list {list} -o {list}.csv")), Duration::from_secs(300)).1
    });
    eprintln!("{few} KiB for 2,000 inputs, {many} KiB for 20,400");
    assert!(few > 0 && many < few + 4096, "{few} KiB for 2,000 inputs, {many} KiB for 20,400");
}

#[test]
fn bench_measures_every_stage_on_the_way_to_the_network() {
    let folder = prepare(1);
    let output = run(folder.path(), "milenas-infer bench model.onnx images --batch 8 --runs 1 --json");
    assert_eq!(output.code, 2, "two images are broken: {}", output.err);
    let report: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    let files = &report["files"];
    assert_eq!((files["images"].as_u64(), files["failed"].as_u64()), (Some(50), Some(2)));
    let stages: Vec<_> = files["stages"].as_array().unwrap().iter().map(|s| s["stage"].as_str()).collect();
    assert_eq!(stages, [Some("read"), Some("decode"), Some("prepare"), Some("run")]);
    assert!(
        files["images_per_second"].as_f64() > Some(0.0) && report["images_per_second"].as_f64() > Some(0.0)
    );
}
