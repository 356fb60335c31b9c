//! Tests of reports, on synthetic runs.

use super::head::next_step;
use super::*;
use crate::config::Config;
use crate::next::NextStep;

fn run(folder: &Path, files: &[(&str, String)]) {
    std::fs::create_dir_all(folder.join("genotypes")).unwrap();
    let config = Config::resolve("smoke", None, &[]).unwrap().to_toml().unwrap();
    std::fs::write(folder.join("config.toml"), config).unwrap();
    files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
}

fn html(runs: &[impl AsRef<Path>]) -> String {
    page_of(runs, NextStep::to_string).unwrap()
}

fn search_line(epoch: usize) -> String {
    let genotype = Genotype::named("DARTS_V2").unwrap().to_json();
    let genotype: serde_json::Value = serde_json::from_str(&genotype).unwrap();
    let mixture = vec![vec![[0.125; 8]; 14]; 2];
    let line = serde_json::json!({
        "epoch": epoch, "lr": 0.025, "train_loss": 2.0 - epoch as f64 / 10.0, "train_accuracy": 0.3,
        "images": 500, "valid_accuracy": 0.25, "valid_loss": 2.125, "entropy": [2.0, 1.9], "convolutions": [6, 0], "params": 3349342, "macs": 500,
        "skips": 2, "mixture": mixture, "genotype": genotype,
    });
    format!("{line}\n")
}

const TRAIN_LINE: &str = "{\"epoch\":0,\"lr\":0.05,\"train_loss\":1.5,\"train_accuracy\":0.5,\"images\":1504,\"test_accuracy\":0.61,\"test_loss\":1.25}\n";

/// Checks that tags are closed in order, except those that need no end tag.
fn balanced(page: &str) {
    let alone = ["!doctype", "meta", "link", "line", "rect", "path", "polygon"];
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1) {
        let name = tag.split([' ', '>', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{tag}");
        } else if !alone.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

fn closed(page: &str) {
    assert!(!page.contains("http:") && !page.contains("https:"), "nothing is loaded from elsewhere");
    assert!(!page.contains("<script") && !page.contains("url(") && !page.contains("src="));
    assert!(!page.contains("NaN\"") && !page.contains("inf\""));
    balanced(page);
}

#[test]
fn the_report_of_a_search_is_complete() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("a <b> & c");
    let size = serde_json::json!([{ "n": 6, "r": 0, "epoch": 1, "valid_accuracy": 0.4, "params": 1000, "macs": 2000,
        "file": "n6_r0.json", "genotype": null, "alphas": null }]);
    // The last line is incomplete.
    let lines = format!("{}{}{{\"epoch\":2,", search_line(0), search_line(1));
    run(&folder, &[("metrics.jsonl", lines), ("genotypes/table.json", size.to_string())]);
    write(&folder, NextStep::to_string).unwrap();
    let page = std::fs::read_to_string(folder.join(REPORT)).unwrap();
    closed(&page);
    assert!(page.contains("a &lt;b&gt; &amp; c") && page.contains("2 of 8") && page.contains("3,349,342"));
    // One mixture per edge of two cells, two cells, five curves and the sizes.
    assert_eq!(page.matches("preserveAspectRatio").count(), 28);
    assert_eq!(page.matches("class=\"state").count(), 12);
    // Both cells in numbers, edges by operations; the entropies of both.
    assert_eq!(page.matches("<td>12.5 (12.5)</td>").count(), 2 * 14 * 8);
    assert!(page.contains("<td>2.000</td><td>1.900</td></tr>"));
    for expected in ["Entropy", "Convolutions", "n6 r0", "resume the search in ", "genotypes/n6_r0.json"] {
        assert!(page.contains(expected), "{expected}");
    }
}

/// The chosen architecture differs from that of the last epoch: the report shows the cost of the drawn cells.
#[test]
fn a_finished_search_reports_the_cost_of_its_choice() {
    let place = tempfile::tempdir().unwrap();
    let chosen = Genotype::named("DARTS_V1").unwrap().to_json();
    let genotype: serde_json::Value = serde_json::from_str(&chosen).unwrap();
    let mut first: serde_json::Value = serde_json::from_str(&search_line(0)).unwrap();
    (first["genotype"], first["params"]) = (genotype.clone(), 3056.into());
    let size = serde_json::json!([{ "n": 6, "r": 0, "epoch": 0, "valid_accuracy": 0.4, "params": 3056, "macs": 2001,
        "file": "n6_r0.json", "genotype": genotype, "alphas": null }]);
    let lines = format!("{first}\n{}", search_line(1));
    run(place.path(), &[("metrics.jsonl", lines), ("genotypes/table.json", size.to_string())]);
    let number = |name: &str, value: &str| format!("<dt>{name}</dt><dd>{value}</dd>");
    let again = "http-equiv=\"refresh\"";
    let page = html(&[place.path()]);
    assert!(page.contains(&number("parameters, last epoch", "3,349,342")) && page.contains(again));
    assert!(!html(&[place.path(), place.path()]).contains(again), "no run writes this page");
    std::fs::write(place.path().join("genotype.json"), &chosen).unwrap();
    let page = html(&[place.path()]);
    assert!(
        page.contains(&number("parameters", "3,056")) && page.contains(&number("MACs per image", "2,001"))
    );
    assert!(!page.contains(again), "it has ended");
    let both = html(&[place.path(), place.path()]);
    assert_eq!((both.matches("<td>3,056</td>").count(), both.contains("3,349,342")), (2, false));
    // Without the table, the cost comes from the epoch of the architecture.
    std::fs::remove_file(place.path().join("genotypes/table.json")).unwrap();
    let page = html(&[place.path()]);
    assert!(page.contains(&number("parameters", "3,056")) && page.contains(&number("MACs per image", "500")));
}

#[test]
fn a_search_of_nasbench201_names_its_own_operations() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    let arch = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|";
    let row = [0.1, 0.1, 0.1, 0.6, 0.1, 0.0, 0.0, 0.0];
    let line = serde_json::json!({
        "epoch": 0, "lr": 0.025, "train_loss": 2.0, "train_accuracy": 0.3, "valid_accuracy": 0.25,
        "entropy": [1.6, 0.0], "convolutions": [2, 0], "params": 372346, "macs": 500, "skips": 1,
        "mixture": [vec![row; 6], Vec::<[f64; 8]>::new()], "genotype": { "arch": arch },
    });
    run(&folder, &[("metrics.jsonl", format!("{line}\n"))]);
    let config = Config::resolve("smoke", None, &["search.space=nasbench201".into()]).unwrap();
    std::fs::write(folder.join("config.toml"), config.to_toml().unwrap()).unwrap();
    write(&folder, NextStep::to_string).unwrap();
    let page = std::fs::read_to_string(folder.join(REPORT)).unwrap();
    closed(&page);
    // One cell of four states, and no reduction cell.
    assert_eq!(page.matches("class=\"state").count(), 4);
    assert!(
        page.contains("c k\u{2212}1 \u{2192} 2: nor 3\u{d7}3 60\u{a0}%") && !page.contains("Reduction cell")
    );
    // Edges by operations, and no entropy of a cell that is not there.
    assert_eq!(page.matches("<td>60.0 (60.0)</td>").count(), 6);
    assert!(page.contains("entropy, normal</th>") && !page.contains("entropy, reduction"));
}

#[test]
fn the_report_of_a_training_is_complete() {
    let place = tempfile::tempdir().unwrap();
    let ranked = [([2.0, 1.0], 0), ([2.0, 1.0], 1)];
    let ranked = ranked.map(|(logits, label)| milenas_models::metrics::Ranked::new(&logits, label));
    let scores = Scores::new(&ranked, &["cat".into(), "<dog>".into()]);
    let files = [
        ("metrics.jsonl", TRAIN_LINE.to_string()),
        (
            "timings.jsonl",
            "{\"epoch\":0,\"step\":50,\"seconds\":50.2,\"peak_mib\":321.4}\n\
             {\"epoch\":1,\"step\":0,\"seconds\":25.0,\"peak_mib\":null}\n"
                .into(),
        ),
        ("genotype.json", Genotype::named("DARTS_V2").unwrap().to_json()),
        ("scores.json", serde_json::to_string(&scores).unwrap()),
        ("cost.json", "{\"params\":1234567,\"macs\":7654321}".into()),
        ("weights.safetensors", "made up".into()),
    ];
    run(place.path(), &files);
    let page = html(&[place.path()]);
    closed(&page);
    for expected in [
        "61.00 %",
        "time</dt><dd>1 min 15 s<",
        "time per epoch</dt><dd>1 min 15 s<",
        "images per second</dt><dd>20<",
        "peak memory</dt><dd>321 MiB<",
        "<td>1.2500</td>",
        "&lt;dog&gt;",
        "export the network trained in ",
        "50.00 %",
        "Confusion",
        "1,234,567",
        "7,654,321",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(!page.contains("Entropy") && !page.contains("Mixtures"));
}

/// A training resumes only with the search of its initial weights and on the same kind of device, so the step names both.
#[test]
fn an_interrupted_training_resumes_with_its_initial_weights() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let genotype = Genotype::named("DARTS_V2").unwrap().to_json();
    run(path, &[("metrics.jsonl", TRAIN_LINE.into()), ("genotype.json", genotype)]);
    let step = || next_step(&RunSummary::read(path).unwrap());
    let resumed = |from: Option<&str>, data: Option<&str>, device: Option<&str>| NextStep::ResumeTraining {
        run: path.to_path_buf(),
        from_supernet: from.map(Into::into),
        data: data.map(Into::into),
        device: device.map(Into::into),
    };
    assert_eq!(step(), resumed(None, None, None));
    for (name, device) in [("cpu", None), ("cuda,tf32", Some("cuda,tf32"))] {
        let timing =
            format!("{{\"epoch\":1,\"step\":0,\"seconds\":2.0,\"peak_mib\":3.0,\"device\":\"{name}\"}}\n");
        std::fs::write(path.join("timings.jsonl"), timing).unwrap();
        assert_eq!(step(), resumed(None, None, device));
    }
    std::fs::write(path.join("start.json"), "{\"from_supernet\":\"runs/it's\"}").unwrap();
    assert_eq!(step(), resumed(Some("runs/it's"), None, Some("cuda,tf32")));
    let page = html(&[path]);
    let text = escaped(&step().to_string());
    assert!(
        page.contains(&format!("source in place of SRC:</p>\n<pre tabindex=\"0\">{text}</pre>")),
        "{page}"
    );
    std::fs::write(path.join("source.txt"), "my images/it's\n").unwrap();
    assert_eq!(step(), resumed(Some("runs/it's"), Some("my images/it's"), Some("cuda,tf32")));
    assert!(!html(&[path]).contains("SRC"));
    // A program words the step itself.
    let page = page_of(&[path], |step| format!("<{}>", step.lacks_source())).unwrap();
    assert!(page.contains("<pre tabindex=\"0\">&lt;false&gt;</pre>"), "{page}");
}

/// A black-box search has no epochs.
#[test]
fn the_report_of_a_black_box_search_has_its_next_step() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("it's here");
    let genotype = Genotype::named("DARTS_V2").unwrap().to_json();
    let cell = |first: &str| format!("|{first}~0|+|none~0|none~1|+|none~0|none~1|none~2|");
    let [a, b, c, d] = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"].map(cell);
    let two = format!("architecture,value\n\"{a}\",1\n\"{b}\",2\n");
    run(&folder, &[("history.csv", two), ("genotype.json", genotype)]);
    let page = html(&[&folder]);
    closed(&page);
    assert!(page.contains("<dt>architectures evaluated</dt><dd>2</dd>") && !page.contains("epochs</dt>"));
    let train = NextStep::Train { search: folder.clone(), data: None };
    assert!(page.contains(&escaped(&train.to_string())) && !page.contains("resume the search"));
    // While the search runs, and after an interruption.
    std::fs::remove_file(folder.join("genotype.json")).unwrap();
    let rows = format!("architecture,value\n\"{a}\",-1.5\n\"{b}\",-inf\n\"{c}\",2.25\n\"{d}\",3");
    std::fs::write(folder.join("history.csv"), rows).unwrap();
    let config = Config::resolve("smoke", None, &["search.strategy=naswot".into()]).unwrap();
    std::fs::write(folder.join("config.toml"), config.to_toml().unwrap()).unwrap();
    let page = html(&[&folder]);
    closed(&page);
    let resume = NextStep::ResumeSearch { run: folder, data: None, device: None };
    assert!(page.contains(&format!(">{}</pre>", escaped(&resume.to_string()))));
    assert!(page.contains("<dt>architectures evaluated</dt><dd>3</dd>") && page.contains("best so far"));
    let best = format!(
        "<tr><th scope=\"row\">3</th><td>2.250</td><td>{c}</td></tr>\n<tr><th scope=\"row\">1</th><td>-1.500</td><td>{a}</td></tr>"
    );
    assert!(page.contains(&best) && !page.contains(&d), "{page}");
}

#[test]
fn runs_are_compared_and_a_new_run_counts() {
    let place = tempfile::tempdir().unwrap();
    let folders = ["search", "train", "begun"].map(|name| place.path().join(name));
    run(&folders[0], &[("metrics.jsonl", search_line(0))]);
    run(&folders[1], &[("metrics.jsonl", TRAIN_LINE.into())]);
    run(&folders[2], &[]);
    let page = html(&folders);
    closed(&page);
    assert!(page.contains("3 runs") && page.contains("Searches") && page.contains("Trainings"));
    closed(&html(&folders[2..]));
}

#[test]
fn errors_explain_folders_without_a_run() {
    let place = tempfile::tempdir().unwrap();
    let message = write(place.path(), NextStep::to_string).unwrap_err().to_string();
    assert!(message.contains("no run in this folder or its subfolders. help"), "{message}");
    run(place.path(), &[("metrics.jsonl", "{}\n".into())]);
    let message = write(place.path(), NextStep::to_string).unwrap_err().to_string();
    assert!(
        message.contains("metrics.jsonl") && message.contains("line 1 is not an epoch record"),
        "{message}"
    );
    assert!(message.contains("help: restore"), "{message}");
}

#[test]
fn a_folder_of_runs_is_all_of_them() {
    let place = tempfile::tempdir().unwrap();
    for name in ["random-1/seed-10", "random-1/seed-9", "random-1/seed-9/deeper", "alone", "a/b/c/too-deep"] {
        run(&place.path().join(name), &[("metrics.jsonl", TRAIN_LINE.into())]);
    }
    std::fs::write(place.path().join("compare.json"), "[]").unwrap();
    let page = html(&runs(&[place.path()]));
    closed(&page);
    let places: Vec<_> = ["alone", "random-1/seed-9", "random-1/seed-10"]
        .iter()
        .map(|name| page.find(&format!("{name}<")))
        .collect();
    assert!(page.contains("3 runs") && places[0].is_some() && places.is_sorted(), "{places:?}");
    assert!(!page.contains("deeper"));
    let own = place.path().join("random-1/seed-9");
    assert_eq!(runs(&[&own]), vec![own.clone()]);
    let all = runs(&[&own, place.path(), &place.path().join("a/b")]);
    assert!(all.len() == 4 && all[0] == own && all[3].ends_with("a/b/c/too-deep"), "{all:?}");
}
