//! Genotypes by model size, stopping and choice of a search: the real binary, on the built-in digits.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use milenas_models::Genotype;
use milenas_tests::{binary, kill_when, run, succeed};
use serde_json::Value;

/// Epochs of a few steps with a fast architecture, so that several sizes are met.
const SEARCH: &str = "milenas-search run --data digits --seed 3 --set search.epochs=6 --set search.steps=8 \
     --set search.batch=8 --set search.channels=4 --set search.layers=3 --set search.alphas.lr=0.1 \
     --set train.epochs=1 --set train.steps=1 --set train.batch=8 --set train.channels=4 --set train.layers=3";

fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn table(folder: &Path) -> Vec<Value> {
    serde_json::from_slice(&fs::read(folder.join("genotypes/table.json")).unwrap()).unwrap()
}

#[test]
fn the_table_is_the_best_epoch_of_every_size_and_its_genotypes_train() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let output = succeed(root, &format!("{SEARCH} --out a"));
    let (lines, table) = (lines(&root.join("a")), table(&root.join("a")));
    assert!(table.len() > 2, "{}", output.out);
    let size = |line: &Value| (line["convolutions"][0].clone(), line["convolutions"][1].clone());
    for row in &table {
        let own: Vec<&Value> =
            lines.iter().filter(|l| size(l) == (row["n"].clone(), row["r"].clone())).collect();
        let best = own.iter().map(|line| line["valid_accuracy"].as_f64().unwrap()).fold(0.0, f64::max);
        let first = own.iter().find(|line| line["valid_accuracy"] == best).unwrap();
        for key in ["epoch", "valid_accuracy", "params", "macs", "genotype"] {
            assert_eq!(row[key], first[key], "{key} of {row}");
        }
    }
    assert_eq!(
        table.len(),
        lines.iter().map(size).map(|s| format!("{s:?}")).collect::<std::collections::HashSet<_>>().len()
    );

    // Parameters are those that training reports.
    let row = table.iter().max_by_key(|row| row["params"].as_u64()).unwrap();
    let file = format!("a/genotypes/{}", row["file"].as_str().unwrap());
    Genotype::parse(&fs::read_to_string(root.join(&file)).unwrap(), &file).unwrap();
    let set = SEARCH.split_once("--set").unwrap().1;
    let result =
        succeed(root, &format!("milenas-search train --genotype {file} --data digits --out net --set{set}"));
    let expected = format!("{} parameters, {} multiply-accumulates per image", row["params"], row["macs"]);
    assert!(result.out.contains(&expected), "{expected}: {}", result.out);
    assert!(
        output.out.contains(row["file"].as_str().unwrap()) && output.out.contains("<- chosen"),
        "{}",
        output.out
    );

    // The chosen one is the best of the size that the search ended at.
    let chosen = Genotype::parse(&fs::read_to_string(root.join("a/genotype.json")).unwrap(), "x").unwrap();
    let end = lines.last().unwrap();
    assert_eq!(serde_json::json!(chosen.convolutions()), end["convolutions"]);

    // Limits choose again, without a search.
    let smallest = table.iter().map(|row| row["params"].as_u64().unwrap()).min().unwrap();
    let result = run(
        root,
        &format!("milenas-search run --data digits --out a --resume --max-params {}", smallest - 1),
    );
    assert!(result.code == 1 && result.err.contains(&format!("has {smallest} parameters")), "{}", result.err);
    succeed(root, &format!("milenas-search run --data digits --out a --resume --max-params {smallest}"));
    let row = table.iter().find(|row| row["params"] == smallest).unwrap();
    let file = root.join("a/genotypes").join(row["file"].as_str().unwrap());
    assert_eq!(fs::read(root.join("a/genotype.json")).unwrap(), fs::read(file).unwrap());
}

#[test]
fn a_size_or_a_time_ends_the_search() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let output = succeed(root, &format!("{SEARCH} --out size --stop-at-size n=8,r=8"));
    assert!(output.out.contains("ended early") && lines(&root.join("size")).len() == 1, "{}", output.out);
    let output = succeed(root, &format!("{SEARCH} --out strict --stop-at-size n=0,r=8 --stop-rule exactly"));
    assert!(!output.out.contains("ended early"), "{}", output.out);

    succeed(root, &format!("{SEARCH} --out whole"));
    let output = succeed(root, &format!("{SEARCH} --out time --time-budget 1ms"));
    assert!(output.out.contains("the time budget is used up"), "{}", output.out);
    assert!(lines(&root.join("time")).is_empty() && root.join("time/genotype.json").exists());
    succeed(root, "milenas-search run --data digits --out time --resume --time-budget 1h");
    for name in ["genotype.json", "metrics.jsonl", "genotypes/table.json"] {
        let [time, whole] = ["time", "whole"].map(|out| fs::read(root.join(out).join(name)).unwrap());
        assert!(time == whole, "{name}");
    }
}

/// A finished search that resumes with more time has no chosen genotype until it ends: neither its folder nor its report
/// names one.
#[test]
fn more_time_takes_back_what_was_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path(), folder.path().join("long"));
    let long = SEARCH.replace("search.steps=8", "search.steps=50 --set search.checkpoint_steps=1");
    succeed(root, &format!("{long} --out long --time-budget 1ms"));
    let asks = "The run is not finished. To resume it after a stop";
    let page = || fs::read_to_string(out.join("report.html")).unwrap_or_default();
    assert!(out.join("genotype.json").exists() && !page().contains(asks));
    let child = Command::new(binary("milenas-search"))
        .args("run --data digits --out long --resume --time-budget 1m".split(' '))
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    kill_when(child, || !out.join("genotype.json").exists());
    assert!(lines(&out).is_empty(), "it waits for the end of an epoch");
    succeed(root, "milenas-search report long");
    assert!(page().contains(asks));
}

#[test]
fn a_collapse_to_skips_is_told_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut seen = [0, 0];
    for seed in 1..=8 {
        let out = format!("a{seed}");
        let short =
            SEARCH.replace("--seed 3", "").replace("epochs=6", "epochs=2").replace("steps=8", "steps=4");
        let output = succeed(root, &format!("{short} --seed {seed} --out {out}"));
        let collapsed = lines(&root.join(out)).iter().any(|line| line["skips"].as_u64().unwrap() >= 3);
        let warning = output.err.lines().find(|line| line.starts_with("warning: "));
        assert_eq!(warning.is_some(), collapsed, "{}", output.err);
        let result =
            warning.is_none_or(|line| line.contains("skip connections") && line.contains("--stop-at-size"));
        assert!(result, "{}", output.err);
        seen[usize::from(collapsed)] += 1;
    }
    assert!(seen.iter().all(|&n| n > 0), "both are met: {seen:?}");
}

#[test]
fn a_search_by_judgements_keeps_to_the_limits() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let search = "milenas-search run --data digits --seed 3 --strategy random --set search.population.trainings=4 \
         --set search.population.epochs=1 --set search.steps=1 --set search.batch=8 --set search.channels=2 \
         --set search.layers=3 --set train.channels=4 --set train.layers=3";
    let params = |out: &str| -> Vec<u64> {
        let mut table = csv::Reader::from_path(root.join(out).join("history.csv")).unwrap();
        let network = milenas_models::NetworkConfig {
            channels: 4,
            layers: 3,
            classes: 10,
            in_channels: 1,
            height: 8,
            width: 8,
            skeleton: Default::default(),
        };
        let of = |row: csv::StringRecord| {
            let genotype = Genotype::parse(&row[0], "row").unwrap();
            milenas_models::cost(&milenas_models::assemble(&genotype, &network).unwrap()).params
        };
        table.records().map(|row| of(row.unwrap())).collect()
    };
    succeed(root, &format!("{search} --out free"));
    let middle = *params("free").iter().max().unwrap() - 1;
    succeed(root, &format!("{search} --out small --max-params {middle}"));
    let small = params("small");
    assert!(small.len() == 4 && small.iter().all(|params| *params <= middle), "{small:?} {middle}");
    let output = run(root, &format!("{search} --out none --max-params 10"));
    assert!(output.code == 1 && output.err.contains("at most 10 parameters"), "{}", output.err);
    assert!(
        output.err.contains("smallest values are") && output.err.contains("raise max_params"),
        "{}",
        output.err
    );
    succeed(root, &format!("{search} --out none --max-params {middle}"));
}

/// The cost of a size is that of the network that training makes, including the stems.
#[test]
fn sizes_are_those_of_the_network_that_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let form = "--set data.size=32 --set train.skeleton=imagenet --set augment.flip=false";
    succeed(root, &format!("{SEARCH} {form} --set search.epochs=1 --out a"));
    let row = &table(&root.join("a"))[0];
    let result = succeed(
        root,
        "milenas-search train --genotype a/genotype.json --config a/config.toml --data digits --out net",
    );
    let expected = format!("{} parameters, {} multiply-accumulates per image", row["params"], row["macs"]);
    assert!(result.out.contains(&expected), "{expected}: {}", result.out);

    let naswot = "milenas-search run --config a/config.toml --data digits --strategy naswot --set search.population.draws=2";
    let output = run(root, &format!("{naswot} --max-params 10 --out b"));
    let begin = output.err.split("smallest values are ").nth(1).and_then(|rest| rest.split(' ').next());
    let begin: u64 = begin.unwrap_or_else(|| panic!("{}", output.err)).parse().unwrap();
    succeed(root, &format!("{naswot} --max-params {begin} --set search.population.draws=1 --out c"));
    let result = succeed(
        root,
        "milenas-search train --genotype c/genotype.json --config c/config.toml --data digits --out net-c",
    );
    assert!(result.out.contains(&format!("{begin} parameters")), "{begin}: {}", result.out);
}
