//! Table of settings: every key is documented and checked, presets state differences only, and the reference in
//! `docs/settings.md` is up to date.

use std::fmt::Write;
use std::path::Path;

use milenas_search::config::settings::{Choice, Range, Resume, Setting};
use milenas_search::config::{Config, PRESETS};
use milenas_search::relaxation::{self, RelaxationConfig};
use milenas_search::score::SCORES;

fn preset(name: &str, sets: &[&str]) -> milenas_search::Result<Config> {
    Config::resolve(name, None, &sets.iter().map(|set| set.to_string()).collect::<Vec<_>>())
}

#[test]
fn every_setting_is_documented_and_its_names_are_values() {
    let settings = Config::default().settings();
    assert!(settings.len() > 60);
    for Setting { key, value, declared } in settings {
        assert!(declared.doc.ends_with('.') && declared.doc.len() > 15, "{key}: {}", declared.doc);
        let Range::OneOf(choices) = declared.range else { continue };
        assert!(choices.iter().any(|choice| Some(choice.name) == value.as_str()), "{key}");
        for Choice { name, doc } in choices {
            assert!(doc.len() > 5 && !doc.ends_with('.'), "{key} {name}: {doc}");
            let found = preset("smoke", &[&format!("{key}={name}")]);
            let other = found.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!other.contains("unknown"), "{key}: {other}");
        }
        assert!(preset("smoke", &[&format!("{key}=other")]).is_err(), "{key}");
    }
}

#[test]
fn numbers_out_of_range_are_refused_by_key() {
    for Setting { key, declared, .. } in Config::default().settings() {
        let wrong = match declared.range {
            Range::Any | Range::OneOf(_) => continue,
            Range::Count => "0",
            Range::Between(low, _) => &format!("{:?}", low - 1.0),
            Range::Fraction => "1.0",
            Range::Positive => "0.0",
            Range::NotNegative => "-0.5",
        };
        let message = preset("smoke", &[&format!("{key}={wrong}")]).unwrap_err().to_string();
        assert!(message.contains(&format!("`{key}` is ")), "{message}");
    }
}

#[test]
fn options_have_different_names() {
    let mut names: Vec<_> =
        Config::default().settings().into_iter().filter_map(|setting| setting.declared.option).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn presets_state_differences_only() {
    for (name, text, below) in PRESETS {
        let base = below.map_or_else(Config::default, |below| preset(below, &[]).unwrap());
        let differing = base.settings().into_iter().zip(preset(name, &[]).unwrap().settings());
        let differing = differing.filter(|(base, own)| base.value != own.value).count();
        let stated = text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).count();
        assert_eq!(stated, differing, "{name} states values that are the same without it");
    }
}

/// The file is written by this test with the environment variable `MILENAS_WRITE_DOCS` set.
#[test]
fn the_reference_of_settings_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    let expected = reference();
    if std::env::var_os("MILENAS_WRITE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/settings.md differs from the settings. help: make docs");
}

fn reference() -> String {
    let mut text = "# Settings\n\nConfiguration keys of `milenas-search run`, `train` and `compare`, for `--set KEY=VALUE` and for the file of \
        `--config`. Generated from their declarations by `make docs`.\n\n\
        A preset column states the value where it differs from the default, which is the value of the preset `smoke`. Some keys have \
        an option of their own. A run resumes with the values that it was started with, except for keys marked *may change*; those marked \
        *may change by gradients* may change in a gradient-based search.\n"
        .to_string();
    let presets: Vec<(&str, Vec<Setting>)> = PRESETS[1..]
        .iter()
        .map(|(name, ..)| {
            (*name, preset(name, &[]).map_or_else(|error| panic!("{error}"), |config| config.settings()))
        })
        .collect();
    let mut group = None;
    for (i, Setting { key, value, declared }) in Config::default().settings().into_iter().enumerate() {
        let (now, name) = key.rsplit_once('.').unwrap_or(("", &key));
        if group.as_deref() != Some(now) {
            let title = if now.is_empty() { String::new() } else { format!("\n## `{now}`\n") };
            let names: Vec<&str> = presets.iter().map(|(name, _)| *name).collect();
            let _ = write!(
                text,
                "{title}\n| key | default | {} | meaning |\n|{}\n",
                names.join(" | "),
                " --- |".repeat(names.len() + 3)
            );
            group = Some(now.to_string());
        }
        let differing = presets.iter().map(|(_, settings)| match &settings[i].value {
            same if *same == value => String::new(),
            other => other.to_string(),
        });
        let mut notes = match declared.range {
            Range::Any => String::new(),
            range => format!(" Values: {range}."),
        };
        if let Some(option) = declared.option {
            let _ = write!(notes, " Option `--{option}`.");
        }
        notes += match declared.resume {
            Resume::SameValue => "",
            Resume::AnyValue => " *May change.*",
            Resume::Choice => " *May change by gradients.*",
        };
        let _ = writeln!(
            text,
            "| `{name}` | {value} | {} | {}{notes} |",
            differing.collect::<Vec<_>>().join(" | "),
            declared.doc
        );
    }
    text += &tables();
    text
}

/// Returns the tables of relaxations and scores.
fn tables() -> String {
    let mut text =
        "\n## Relaxations\n\n| `--mixture` | meaning | source |\n| --- | --- | --- |\n".to_string();
    let relaxations = RelaxationConfig::default();
    for (entry, (name, doc)) in relaxations.all().into_iter().zip(relaxation::choices()) {
        let _ = writeln!(text, "| `{name}` | {doc} | {} |", entry.relaxation.source());
    }
    text += "\n## Scores\n\nNames for `milenas-search score --metric NAME` and, joined by `+`, `--score`.\n\n\
        | name | meaning |\n| --- | --- |\n";
    for score in SCORES {
        let _ = writeln!(text, "| `{}` | {} |", score.name(), score.doc());
    }
    text
}
