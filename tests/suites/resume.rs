//! Killed searches and trainings resume to the same bytes, and a search refuses checkpoints of another run.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use milenas_models::Rng;
use milenas_tests::{ProgramOutput, TINY, binary, kill_when, run, succeed};

/// A search of a few seconds.
const SEARCH: &str = "milenas-search run --data digits --seed 5 --set augment.flip=false --set search.epochs=6 \
     --set search.steps=14 --set search.batch=16 --set search.channels=4 --set search.layers=3 \
     --set search.checkpoint_steps=2 --set train.channels=4 --set train.layers=3";

/// A training of a few seconds with everything that draws.
const TRAIN: &str = "milenas-search train --genotype DARTS_V2 --data digits --seed 5 --set augment.flip=false \
     --set data.size=32 --set train.epochs=3 --set train.steps=30 --set train.batch=8 --set train.channels=4 \
     --set train.layers=3 --set train.checkpoint_steps=1 --set train.auxiliary=0.4 --set train.drop_path=0.3 \
     --set train.cutout=0.5 --set train.ema=0.9";

/// A black-box search of a few seconds: scores choose the first of a population, then short trainings.
const JUDGE: &str = "milenas-search run --data digits --seed 5 --strategy area --set augment.flip=false \
     --set search.population.draws=20 --set search.population.trainings=10 --set search.population.size=4 \
     --set search.population.epochs=1 --set search.steps=8 --set search.batch=16 --set search.channels=4 \
     --set search.layers=3 --set train.channels=4 --set train.layers=3";

/// A race of a few seconds.
const RACE: &str = "milenas-search run --data digits --set data.size=24 --seed 5 --strategy race --space nasbench201 --set augment.flip=false \
     --set search.channels=4 --set search.layers=3 --set train.channels=4 --set train.layers=3 \
     --set search.strategies.race.scored=12 --set search.strategies.race.largest=4 --set search.strategies.race.aggregate=2 \
     --set search.strategies.race.second=3 --set search.strategies.race.third=2 --set search.strategies.race.steps_first=6 \
     --set search.strategies.race.steps_second=12 --set search.strategies.race.steps_third=24 \
     --set search.strategies.race.batch=16";

fn start(root: &Path, command: &str, out: &str) -> Child {
    let words = command.split_whitespace();
    let mut command = Command::new(binary("milenas-search"));
    command.args(words.skip(1)).args(["--out", out]);
    // One that was killed before it wrote this has to be begun again.
    if root.join(out).join("config.toml").exists() {
        command.arg("--resume");
    }
    command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Starts the search in `out` and kills it once it has left a checkpoint.
fn unfinished(root: &Path, out: &str) {
    kill_when(start(root, SEARCH, out), || root.join(out).join("checkpoint.safetensors").exists());
}

fn error(output: &ProgramOutput) -> &str {
    assert_eq!(output.code, 1, "{}", output.err);
    output.err.lines().find(|line| line.starts_with("error: ")).unwrap()
}

/// Kills a run twenty times; the files `kept` must be the same afterwards, most frequently written first.
fn killed_and_gone_on_with(root: &Path, command: &str, kept: &[&str]) {
    let begin = Instant::now();
    succeed(root, &format!("{command} --out whole"));
    let whole = begin.elapsed();
    let read = |out: &str| -> Vec<Vec<u8>> {
        kept.iter().map(|name| fs::read(root.join(out).join(name)).unwrap_or_default()).collect()
    };
    let mut rng = Rng::new(7, "kills");
    let (mut kills, mut points) = (0, Vec::new());
    while kills < 20 {
        let before = read("a").swap_remove(0);
        let mut child = start(root, command, "a");
        // Every other life gets on, however long it takes to begin.
        while points.len() % 2 == 1 && read("a")[0] == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(whole.mul_f32(rng.unit() / 10.0));
        kills += usize::from(child.try_wait().unwrap().is_none());
        // SIGKILL on Unix.
        child.kill().unwrap();
        child.wait().unwrap();
        points.push(read("a")[0].clone());
    }
    succeed(root, &format!("{command} --out a --resume"));
    for ((name, expected), found) in kept.iter().zip(read("whole")).zip(read("a")) {
        assert!(!expected.is_empty() && found == expected, "{name} differs");
    }
    points.dedup();
    assert!(points.len() > 5, "only {} different points were killed at, of a run of {whole:?}", points.len());
    let left: Vec<_> =
        fs::read_dir(root.join("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    // A finished run has nothing left to do and prints the same.
    succeed(root, &format!("{command} --out a --resume"));
    assert!(read("a") == read("whole"));
}

#[test]
fn a_search_killed_twenty_times_ends_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let kept =
        ["checkpoint.safetensors", "genotype.json", "metrics.jsonl", "config.toml", "genotypes/table.json"];
    killed_and_gone_on_with(folder.path(), SEARCH, &kept);
    // Its own configuration is enough.
    succeed(folder.path(), "milenas-search run --data digits --out a --resume");
}

#[test]
fn a_training_killed_twenty_times_ends_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let kept =
        ["checkpoint.safetensors", "weights.safetensors", "metrics.jsonl", "config.toml", "scores.json"];
    killed_and_gone_on_with(folder.path(), TRAIN, &kept);
    succeed(folder.path(), "milenas-search train --genotype DARTS_V2 --data digits --out a --resume");
}

/// Statistics are estimated before the first step, and not again.
#[test]
fn a_training_of_inherited_weights_killed_twenty_times_ends_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    succeed(root, &format!("{SEARCH} --set data.size=32 --out s"));
    let train = TRAIN.replace("--genotype DARTS_V2", "--from-supernet s");
    let kept =
        ["checkpoint.safetensors", "weights.safetensors", "metrics.jsonl", "config.toml", "scores.json"];
    killed_and_gone_on_with(root, &train, &kept);
}

#[test]
fn a_search_by_judgements_killed_twenty_times_ends_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    killed_and_gone_on_with(
        root,
        JUDGE,
        &["history.csv", "draws.csv", "genotype.json", "config.toml", "checkpoint.safetensors"],
    );
    // Its own configuration suffices; nothing is evaluated again.
    let output = succeed(root, "milenas-search run --data digits --out a --resume");
    assert!(
        output.err.contains("resuming after 30 evaluations") && !output.err.contains("1 of 10"),
        "{}",
        output.err
    );
    let page = fs::read_to_string(root.join("a/report.html")).unwrap();
    assert!(page.contains("<dt>architectures evaluated</dt><dd>10</dd>") && page.contains("best so far"));
}

#[test]
fn a_race_killed_twenty_times_ends_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    killed_and_gone_on_with(root, RACE, &["history.csv", "draws.csv", "genotype.json", "config.toml"]);
    let history = fs::read_to_string(root.join("a/history.csv")).unwrap();
    let rungs = |rung: &str| history.lines().filter(|line| line.contains(&format!("\",{rung},"))).count();
    assert_eq!((rungs("1"), rungs("2"), rungs("3")), (6, 3, 2), "{history}");
    let page = fs::read_to_string(root.join("a/report.html")).unwrap();
    assert!(page.contains("rung 3: 24 steps, 24x24 pixels") && page.contains("The runner-up is"));
}

/// Cells of another search enter a race. Random cells are trained when a finished race is resumed.
#[test]
fn a_race_takes_found_cells_and_random_ones_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    succeed(
        root,
        &format!(
            "milenas-search run --data digits --space nasbench201 --out found {TINY} --set augment.flip=false"
        ),
    );
    let race = format!("{RACE} --propose-from found --out race");
    succeed(root, &race);
    let history = fs::read_to_string(root.join("race/history.csv")).unwrap();
    let found = fs::read_to_string(root.join("found/genotype.json")).unwrap();
    let arch =
        serde_json::from_str::<serde_json::Value>(&found).unwrap()["arch"].as_str().unwrap().to_string();
    assert!(history.contains(&format!("\"{arch}\",1,")), "{arch} is not in\n{history}");
    let page = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    assert!(page("race/report.html").contains("What chance gives is not known"));
    let genotype = page("race/genotype.json");
    succeed(root, &format!("{race} --resume --random-cells 2"));
    let longer = page("race/history.csv");
    assert!(longer.starts_with(&history) && page("race/genotype.json") == genotype);
    assert_eq!(longer.lines().filter(|line| line.contains("\",4,24,24,24,")).count(), 2, "{longer}");
    assert!(page("race/report.html").contains("Chance: 2 random architectures"));
    let output = run(root, &format!("{RACE} --propose-from race,nothing --out other"));
    assert!(error(&output).contains("nothing holds no finished search"), "{}", output.err);
}

/// A time budget shortens the rungs once; a resumed race has the same ones.
#[test]
fn a_race_obeys_its_time_by_shorter_rungs() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let long = RACE.replace("steps_third=24", "steps_third=1000000");
    let output = succeed(root, &format!("{long} --out time --time-budget 2s"));
    assert!(output.err.contains("for the time budget"), "{}", output.err);
    let plan = fs::read_to_string(root.join("time/rungs.json")).unwrap();
    let history = fs::read_to_string(root.join("time/history.csv")).unwrap();
    fs::remove_file(root.join("time/genotype.json")).unwrap();
    fs::write(
        root.join("time/history.csv"),
        history.lines().take(4).map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    succeed(root, &format!("{long} --out time --time-budget 1h --resume"));
    assert_eq!(fs::read_to_string(root.join("time/rungs.json")).unwrap(), plan);
    assert_eq!(fs::read_to_string(root.join("time/history.csv")).unwrap(), history);
    let foreign = RACE.replace("--seed 5", "--seed 5 --set search.strategies.race.propose=DARTS_V2");
    let output = run(root, &format!("{foreign} --out other"));
    assert!(error(&output).contains("DARTS_V2 is not in the space nasbench201"), "{}", output.err);
}

#[test]
fn a_search_by_judgements_ends_with_its_time_and_goes_on_with_more() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = |command: &str, parts: &[&str]| {
        let output = run(root, command);
        parts.iter().for_each(|part| assert!(error(&output).contains(part), "{command}: {}", output.err));
    };
    let evolution = JUDGE.replace("area", "evolution").replace("--set search.population.draws=20 ", "");
    succeed(root, &format!("{evolution} --out whole"));
    let output = succeed(root, &format!("{evolution} --out time --time-budget 1ms"));
    assert!(output.out.contains("the time budget is used up"), "{}", output.out);
    let rows = |out: &str| fs::read_to_string(root.join(out).join("history.csv")).unwrap();
    assert_eq!(rows("time").lines().count(), 2);
    let next = "next: milenas-search train --genotype time/genotype.json --config time/config.toml --data digits --out time-net";
    assert!(output.out.contains(next), "{}", output.out);
    refused(&format!("{evolution} --out time"), &["already holds genotype.json"]);
    let own = "milenas-search run --data digits --out time --resume";
    refused(
        &format!("{own} --set search.population.size=5"),
        &["checkpoint.safetensors", "`search.population.size` is 4 there"],
    );
    refused(&format!("{own} --max-params 9"), &["`search.stop.max_params` is 0 there and 9 now"]);
    succeed(root, &format!("{own} --time-budget 1h"));
    assert_eq!(rows("time"), rows("whole"));
    let [time, whole] = ["time", "whole"].map(|out| fs::read(root.join(out).join("genotype.json")).unwrap());
    assert!(time == whole);

    fs::remove_file(root.join("whole/genotype.json")).unwrap();
    refused(&format!("{evolution} --out whole"), &["whole holds an unfinished search", "--resume"]);
    refused(
        "milenas-search run --data digits --out whole --resume --strategy milenas",
        &["whole holds an unfinished search that evaluates", "its own strategy"],
    );
    fs::write(root.join("whole/history.csv"), rows("whole").replacen("conv", "pool", 1)).unwrap();
    refused("milenas-search run --data digits --out whole --resume", &["history.csv: row 1", "help"]);
}

#[test]
fn what_cannot_go_on_is_explained_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    unfinished(root, "a");
    let path = root.join("a/checkpoint.safetensors");
    let before = fs::read(&path).unwrap();
    let refused = |command: &str, parts: &[&str]| {
        let output = run(root, command);
        parts.iter().for_each(|part| assert!(error(&output).contains(part), "{command}: {}", output.err));
    };
    refused(&format!("{SEARCH} --out a"), &["a holds the checkpoint of an unfinished search", "--resume"]);
    refused(
        &format!("{SEARCH} --out a --resume --set search.lambda=2"),
        &["checkpoint.safetensors", "`search.lambda` is 1.0 there and 2.0 now", "help"],
    );
    refused(
        "milenas-search train --genotype DARTS_V2 --data digits --out a --resume",
        &["it is a `milenas.checkpoint`, expected a `milenas.training`", "a search resumes searches"],
    );
    let lines = fs::read(root.join("a/metrics.jsonl")).unwrap();
    assert!(fs::read(&path).unwrap() == before);

    fs::write(&path, &before[..before.len() / 2]).unwrap();
    refused(
        "milenas-search run --data digits --out a --resume",
        &["checkpoint.safetensors", "damaged", "help"],
    );
    fs::write(&path, &before).unwrap();
    assert!(fs::read(root.join("a/metrics.jsonl")).unwrap() == lines);
    succeed(root, "milenas-search run --data digits --out a --resume");
}

/// A file may not grow beyond a tenth of a checkpoint: the writer hears of it as of a full disk.
#[cfg(unix)]
#[test]
fn no_room_for_a_checkpoint_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    unfinished(root, "a");
    let path = root.join("a/checkpoint.safetensors");
    let before = fs::read(&path).unwrap();
    let program = binary("milenas-search");
    // In blocks of 512 or 1024 bytes. A process that ignores the signal gets an error instead of its end.
    let script = format!(
        "trap '' XFSZ; ulimit -f {}; exec {} run --data digits --out a --resume",
        before.len() / 10240,
        program.display()
    );
    let done = Command::new("sh").args(["-c", &script]).current_dir(root).output().unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{output}");
    let expected = ["the run stops at epoch", "checkpoint.safetensors", "File too large", "--resume"];
    expected.iter().for_each(|part| assert!(output.contains(part), "{part}: {output}"));
    assert!(fs::read(&path).unwrap() == before);
    let names = fs::read_dir(root.join("a")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().ends_with(".tmp")));
    succeed(root, "milenas-search run --data digits --out a --resume");
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    unfinished(root, "a");
    let path = root.join("a/checkpoint.safetensors");
    let before = fs::read(&path).unwrap();
    let rights = |mode| fs::set_permissions(root.join("a"), fs::Permissions::from_mode(mode)).unwrap();
    rights(0o555);
    if fs::write(root.join("a/probe"), "").is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    let output = run(root, "milenas-search run --data digits --out a --resume");
    assert!(error(&output).contains("Permission denied"), "{}", output.err);
    rights(0o755);
    assert!(fs::read(&path).unwrap() == before);
}
