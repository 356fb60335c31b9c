//! Trainings that belong together: several seeds, several architectures, the weights of a search.

use std::fs;
use std::path::Path;

use milenas_tests::{TINY, run, succeed};
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn top1(run: &Path) -> f64 {
    json(&run.join("scores.json"))["top1"].as_f64().unwrap()
}

#[test]
fn seeds_have_a_mean_and_a_deviation() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let output = succeed(
        root,
        &format!("milenas-search train --genotype DARTS_V2 --data digits --out a --seed 4 --seeds 3 {TINY}"),
    );
    let found = json(&root.join("a/seeds.json"));
    let accuracies: Vec<f64> = [4, 5, 6].map(|seed| top1(&root.join(format!("a/seed-{seed}")))).to_vec();
    let mean = accuracies.iter().sum::<f64>() / 3.0;
    let deviation = (accuracies.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    assert_eq!(found["test_accuracy"], serde_json::json!(accuracies));
    assert!((found["spread"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!((found["spread"]["deviation"].as_f64().unwrap() - deviation).abs() < 1e-12);
    assert!(
        output.out.contains(&format!("{:.2} % +- {:.2}", 100.0 * mean, 100.0 * deviation)),
        "{}",
        output.out
    );
    // Resumed with fewer arguments after one run was lost: all runs have one configuration and the same seeds.
    let weights = |run: &str| fs::read(root.join(run).join("weights.safetensors")).unwrap();
    let lost = weights("a/seed-6");
    fs::remove_dir_all(root.join("a/seed-6")).unwrap();
    succeed(root, "milenas-search train --genotype DARTS_V2 --data digits --out a --seeds 3 --resume");
    assert_eq!(json(&root.join("a/seeds.json")), found);
    assert!(weights("a/seed-6") == lost);
    let again = run(root, "milenas-search train --genotype DARTS_V2 --data digits --out a --seeds 3");
    assert!(again.code != 0 && again.err.contains("--resume"), "{}", again.err);
    // A seed alone is that seed among others.
    succeed(root, &format!("milenas-search train --genotype DARTS_V2 --data digits --out b --seed 5 {TINY}"));
    assert!(weights("b") == weights("a/seed-5"));
}

#[test]
fn architectures_are_trained_alike_and_what_is_done_stays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let command =
        format!("milenas-search compare --genotypes DARTS_V2,random:2 --data digits --out c --json {TINY}");
    let rows: Value = serde_json::from_str(&succeed(root, &command).out).unwrap();
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["DARTS_V2", "random:1", "random:2", "random, all 2"]);
    for (row, run) in rows.as_array().unwrap().iter().zip(["DARTS_V2", "random-1", "random-2"]) {
        assert_eq!(row["test_accuracy"][0].as_f64().unwrap(), top1(&root.join("c").join(run).join("seed-0")));
        let cost = json(&root.join("c").join(run).join("seed-0/cost.json"));
        assert_eq!((&row["params"], &row["macs"]), (&cost["params"], &cost["macs"]));
        assert!(row["latency_ms"].as_f64().unwrap() > 0.0);
        assert_eq!(row["spread"]["mean"], row["test_accuracy"][0]);
    }
    // Mean and deviation over the two random genotypes.
    let [a, b] = [1, 2].map(|i| rows[i]["test_accuracy"][0].as_f64().unwrap());
    let of = |key: &str| rows[3]["spread"][key].as_f64().unwrap();
    assert!((of("mean") - (a + b) / 2.0).abs() < 1e-12 && of("count") == 2.0);
    assert!((of("deviation") - (a - b).abs() / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(json(&root.join("c/compare.json")), rows);
    assert!(rows.as_array().unwrap().iter().all(|row| row["difference"].is_null()));
    // The table says the same.
    let table = succeed(root, &command.replace(" --json", "")).out;
    for row in rows.as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let line = table.lines().find(|line| line.starts_with(&format!("{name}  ")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in\n{table}"));
        let mean = format!("{:.2} %", 100.0 * row["spread"]["mean"].as_f64().unwrap());
        for expected in [mean, row["params"].to_string(), row["macs"].to_string()] {
            assert!(line.contains(&expected), "{expected} is not in {line}");
        }
    }
    assert!(table.contains("-: one training only; --seeds 2 or more"), "{table}");
    assert!(table.ends_with("next: milenas-search report c\n"), "{table}");
    succeed(root, "milenas-search report c");
    assert!(fs::read_to_string(root.join("c/report.html")).unwrap().contains("3 runs"));
    // The same as `train` makes of the same name.
    succeed(root, &format!("milenas-search train --genotype random:2 --data digits --out t {TINY}"));
    let weights = |run: &str| fs::read(root.join(run).join("weights.safetensors")).unwrap();
    assert!(weights("t") == weights("c/random-2/seed-0"));

    let lines = fs::read(root.join("c/DARTS_V2/seed-0/timings.jsonl")).unwrap();
    let again: Value = serde_json::from_str(&succeed(root, &command).out).unwrap();
    assert_eq!(again[0]["test_accuracy"], rows[0]["test_accuracy"]);
    assert!(fs::read(root.join("c/DARTS_V2/seed-0/timings.jsonl")).unwrap() == lines, "it was trained again");
    // With two seeds, differences to the first are paired.
    let two: Value = serde_json::from_str(&succeed(root, &format!("{command} --seeds 2")).out).unwrap();
    let values = |i: usize| [0, 1].map(|seed| two[i]["test_accuracy"][seed].as_f64().unwrap());
    let ([a, b], [c, d]) = (values(1), values(0));
    let difference = &two[1]["difference"];
    assert!((difference["mean"].as_f64().unwrap() - (a - c + b - d) / 2.0).abs() < 1e-12);
    assert!((difference["error"].as_f64().unwrap() - ((a - c) - (b - d)).abs() / 2.0).abs() < 1e-12);
    assert!(two[0]["difference"].is_null() && two[3]["difference"]["p"].as_f64().is_some());
    let table = succeed(root, &format!("{} --seeds 2", command.replace(" --json", ""))).out;
    assert!(table.contains("difference: to DARTS_V2, paired over the seeds"), "{table}");
    succeed(root, "milenas-search report c");
    let page = fs::read_to_string(root.join("c/report.html")).unwrap();
    let difference = format!("{:+.2} \u{b1} ", 50.0 * (a - c + b - d));
    assert!(page.contains("Trainings by architecture") && page.contains(&difference), "{difference}");
    let same = command.replace("--out c", "--out d --same-size") + " --set train.layers=5";
    let rows: Value = serde_json::from_str(&succeed(root, &same).out).unwrap();
    let params = |i: usize| rows[i]["params"].as_f64().unwrap();
    assert!([1, 2].iter().all(|i| (params(*i) / params(0) - 1.0).abs() < 0.06), "{rows}");
    let output = run(root, &same.replace("DARTS_V2,", ""));
    assert!(output.err.contains("--same-size needs a genotype of that size"), "{}", output.err);
    let output = run(root, &format!("{command} --set train.batch=9"));
    assert_eq!(output.code, 1);
    assert!(output.err.contains("`train.batch` is 8 there and 9 now"), "{}", output.err);
}

#[test]
fn a_training_begins_with_the_weights_of_its_search() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let flip = "--set augment.flip=false";
    succeed(root, &format!("milenas-search run --data digits --out s {TINY} --set search.channels=4 {flip}"));
    let tiny = "--set train.epochs=1 --set train.steps=2 --set train.batch=8";
    let command = format!("milenas-search train --from-supernet s --data digits --out n {tiny}");
    let output = succeed(root, &command);
    assert!(output.err.contains("inherited weights had test accuracy"), "{}", output.err);
    assert!(!output.err.contains("warning"), "{}", output.err);
    let config = fs::read_to_string(root.join("n/config.toml")).unwrap();
    let train = config.split("[train]").nth(1).unwrap();
    assert!(train.contains("channels = 4\n") && train.contains("layers = 3\n"), "{train}");
    assert!(config.contains("flip = false\n"), "it has not the configuration of its search:\n{config}");
    let same = |name: &str| {
        fs::read(root.join("s").join(name)).unwrap() == fs::read(root.join("n").join(name)).unwrap()
    };
    assert!(same("genotype.json"));
    assert_eq!(json(&root.join("n/start.json")), serde_json::json!({ "from_supernet": "s" }));
    succeed(root, &format!("{command} --resume"));
    let other = command.replace("--out n", "--out other");
    let output = succeed(root, &format!("{other} --set data.size=16"));
    let warning = "warning: the search used other training images than this run (1437 images of 1x8x8";
    assert!(
        output.err.contains(warning) && output.err.contains("data.resize and data.split"),
        "{}",
        output.err
    );
    succeed(root, "milenas-search train --from-supernet s --data digits --out other --resume");
    let output = run(root, &command.replace("supernet s", "supernet moved").replace("--out n", "--out m"));
    assert!(output.code == 1 && output.err.contains("moved holds no search"), "{}", output.err);
    let wide = command.replace("--out n", "--out wide");
    let output = run(root, &format!("{wide} --set train.channels=8"));
    assert_eq!(output.code, 1);
    assert!(!root.join("wide").exists(), "it leaves something behind");
    assert!(output.err.contains("has shape") && output.err.contains("omit train.channels"), "{}", output.err);
    let output = run(root, "milenas-search train --data digits --out x");
    assert!(output.code != 0 && output.err.contains("--genotype"), "{}", output.err);
}
