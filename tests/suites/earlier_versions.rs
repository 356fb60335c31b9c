//! Files of version 0.1, before configuration keys had defaults and spaces had files of their own, are read and used.
//! `tests/data/version-0.1` holds searches that their time budget stopped, with what that version made of them
//! afterwards, and a trained network.

use std::fs;
use std::path::{Path, PathBuf};

use milenas_models::Genotype;
use milenas_tests::{run, succeed};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/version-0.1")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the training losses of the epochs in a file of metrics.
fn losses(metrics: &str) -> Vec<f64> {
    let line =
        |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["train_loss"].as_f64().unwrap();
    metrics.lines().map(line).collect()
}

#[test]
fn searches_resume_as_the_version_that_began_them() {
    for run in ["darts-gumbel", "nasbench201-softmax"] {
        let (root, old) = (tempfile::tempdir().unwrap(), data().join(run));
        copy(&old, &root.path().join("run"));
        let resume = "milenas-search run --data digits --out run --resume --time-budget 1h";
        succeed(root.path(), resume);
        let found = |name: &str| text(root.path().join("run").join(name));
        let expected = |name: &str| text(old.join("expected").join(name));
        let genotype = |text: &str| Genotype::parse(text, run).unwrap();
        assert_eq!(genotype(&found("genotype.json")), genotype(&expected("genotype.json")), "{run}");
        let (found, expected) = (losses(&found("metrics.jsonl")), losses(&expected("metrics.jsonl")));
        assert_eq!(found.len(), expected.len(), "{run}");
        for (found, expected) in found.iter().zip(&expected) {
            // Processors differ in the order of sums.
            assert!((found - expected).abs() < 1e-4, "{run}: {found} {expected}");
        }
    }
}

/// Version 0.1 kept the identity of a black-box search in `origin.json`.
#[test]
fn a_black_box_search_is_replayed_and_continued() {
    let (root, old) = (tempfile::tempdir().unwrap(), data().join("nasbench201-area"));
    copy(&old, &root.path().join("run"));
    let resume = "milenas-search run --data digits --out run --resume";
    let other = run(root.path(), &format!("{resume} --set search.population.size=3"));
    assert!(other.code == 1 && other.err.contains("`search.population.size` is 2 there"), "{}", other.err);
    let said = succeed(root.path(), &format!("{resume} --time-budget 1h"));
    assert!(said.err.contains("resuming after 14 evaluations"), "{}", said.err);
    let found = text(root.path().join("run/history.csv"));
    let begun = text(old.join("history.csv"));
    assert!(found.starts_with(&begun) && found.lines().count() == 5, "{found}");
    // Fitness is the accuracy on few images, in steps of more than the rounding of processors.
    assert_eq!(found, text(old.join("expected/history.csv")));
    let genotype = |path: PathBuf| Genotype::parse(&text(path), "genotype").unwrap();
    let found = genotype(root.path().join("run/genotype.json"));
    assert_eq!(found, genotype(old.join("expected/genotype.json")));
}

#[test]
fn genotypes_are_trained_and_runs_are_reported() {
    let root = tempfile::tempdir().unwrap();
    for run in ["darts-gumbel", "nasbench201-softmax"] {
        copy(&data().join(run), &root.path().join(run));
        let genotype = data().join(run).join("expected/genotype.json");
        succeed(
            root.path(),
            &format!(
                "milenas-search train --genotype {} --config {run}/config.toml --data digits --out {run}-net \
                 --set train.layers=3",
                genotype.display()
            ),
        );
        succeed(root.path(), &format!("milenas-export {run}-net/weights.safetensors -o {run}.onnx"));
        succeed(root.path(), &format!("milenas-search report {run}"));
    }
}

#[test]
fn weights_and_onnx_files_classify_as_before() {
    let (root, net) = (tempfile::tempdir().unwrap(), data().join("net"));
    let weights = net.join("weights.safetensors");
    let eval = "milenas-search eval --data digits --predictions now.csv --weights";
    succeed(root.path(), &format!("{eval} {}", weights.display()));
    let column = |text: &str| -> Vec<String> {
        text.lines().skip(1).map(|row| row.split(',').nth(1).unwrap().to_string()).collect()
    };
    let (now, before) = (text(root.path().join("now.csv")), text(net.join("predictions.csv")));
    assert_eq!(now.lines().count(), 361);
    assert_eq!(column(&now), column(&before));
    succeed(root.path(), &format!("milenas-export {} -o again.onnx", weights.display()));
    for model in [net.join("model.onnx"), root.path().join("again.onnx")] {
        let said = succeed(root.path(), &format!("milenas-infer evaluate {} digits --json", model.display()));
        let result: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(result["images"], 360);
    }
}
