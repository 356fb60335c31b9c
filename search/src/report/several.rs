//! Report that compares several runs.

use std::fmt::Write;

use milenas_models::html::{escaped, figure, percent, table};

use super::groups::groups;
use super::read::{EpochRow, RunSummary};
use super::svg::{Series, lines};
use super::{document, figures, series, thousands, time};

pub fn several(stories: &[RunSummary]) -> String {
    let row = |s: &RunSummary| {
        let accuracies = s.epochs.iter().map(EpochRow::accuracy);
        let best = accuracies.fold(f64::NAN, f64::max);
        let last = s.epochs.last().map_or(f64::NAN, EpochRow::accuracy);
        let size = s.cells().map(|g| {
            let [n, r] = g.convolutions();
            format!("n{n} r{r}")
        });
        vec![
            s.name(),
            if s.is_search() { "search".into() } else { "training".into() },
            match &s.evaluated {
                Some(evaluated) => format!("{} evaluated", evaluated.len()),
                None => format!("{} of {}", s.epochs.len(), s.planned()),
            },
            s.config.seed.to_string(),
            size.unwrap_or_default(),
            s.cost().map_or(String::new(), |cost| thousands(cost.params)),
            s.cost().map_or(String::new(), |cost| thousands(cost.macs)),
            percent(last),
            percent(best),
            s.epochs.last().map_or(String::new(), |e| format!("{:.3}", e.train_loss)),
            time(s.seconds),
        ]
    };
    let rows: Vec<_> = stories.iter().map(row).collect();
    let head = [
        "run",
        "kind",
        "epochs",
        "seed",
        "cells",
        "parameters",
        "MACs per image",
        "last accuracy",
        "best",
        "loss",
        "time",
    ];
    let mut body = table(&head, &rows);
    body.push_str("<p>Searches report accuracy on their validation split, trainings on the test images. The two are not comparable.</p>\n");
    body.push_str(&groups(stories));
    for (title, search) in [("Searches", true), ("Trainings", false)] {
        let of: Vec<&RunSummary> =
            stories.iter().filter(|s| s.is_search() == search && !s.epochs.is_empty()).collect();
        if of.is_empty() {
            continue;
        }
        let all = |value: fn(&EpochRow) -> f64| -> Vec<Series> {
            of.iter().map(|s| series(s, &s.name(), |e| Some(value(e)))).collect()
        };
        let _ = write!(
            body,
            "<h2>{title}</h2>\n<div class=\"grid curves\">{}{}</div>\n",
            figure("Accuracy, %", &lines("accuracy", "epoch", &all(|e| 100.0 * e.accuracy()))),
            figure("Training loss", &lines("training loss", "epoch", &all(|e| e.train_loss)))
        );
    }
    for story in stories {
        if let Some(genotype) = story.cells() {
            let _ = write!(
                body,
                "<h2>{}</h2>\n<div class=\"cells\">{}</div>\n",
                escaped(&story.name()),
                figures(genotype)
            );
        }
    }
    document(&format!("{} runs", stories.len()), &body, false)
}
