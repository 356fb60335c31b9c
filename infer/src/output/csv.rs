//! Rows as comma-separated values.

use std::io::Write;

use super::{Sink, failed, one_line};
use crate::answer::{AnswerOptions, Predictions, Score};
use crate::{Error, Result};

/// CSV writer. Every row has the same number of columns.
pub(super) struct Csv<'a, W: Write> {
    writer: csv::Writer<W>,
    view: &'a AnswerOptions,
}

/// Returns the column names: `path`, the best classes, `score.LABEL` of all classes, `feature.N`, `error`.
pub(super) fn columns(view: &AnswerOptions) -> Vec<String> {
    let mut columns = vec!["path".to_string()];
    for k in 1..=view.top_k {
        let suffix = if k == 1 { String::new() } else { format!("_{k}") };
        columns.extend(["label", "index", "score"].map(|name| format!("{name}{suffix}")));
    }
    if view.all_scores {
        columns.extend(view.labels.iter().map(|label| format!("score.{label}")));
    }
    columns.extend((0..view.features.unwrap_or(0)).map(|i| format!("feature.{i}")));
    columns.push("error".into());
    columns
}

impl<'a, W: Write> Csv<'a, W> {
    pub(super) fn new(to: W, view: &'a AnswerOptions, fresh: bool) -> Result<Self> {
        let mut writer = csv::Writer::from_writer(to);
        if fresh {
            writer.write_record(columns(view)).map_err(wrapped)?;
        }
        Ok(Csv { writer, view })
    }

    fn number(&self, score: f64) -> String {
        match self.view.score {
            Score::Probability => format!("{score:.6}"),
            // The shortest text that reads back as the same float32.
            Score::Logit => (score as f32).to_string(),
        }
    }
}

fn wrapped(error: csv::Error) -> Error {
    failed(error.into())
}

impl<W: Write> Sink for Csv<'_, W> {
    fn write(&mut self, path: &str, predictions: std::result::Result<&Predictions, &str>) -> Result<()> {
        let (empty, AnswerOptions { labels, top_k, all_scores, features, .. }) =
            (Predictions::default(), self.view);
        let (predictions, error) = match predictions {
            Ok(predictions) => (predictions, String::new()),
            Err(reason) => (&empty, one_line(reason)),
        };
        let mut row = vec![path.to_string()];
        for k in 0..*top_k {
            match predictions.predictions.get(k) {
                Some(&(i, score)) => row.extend([labels[i].clone(), i.to_string(), self.number(score)]),
                None => row.extend([const { String::new() }; 3]),
            }
        }
        let all = if *all_scores { labels.len() } else { 0 };
        row.extend((0..all).map(|i| predictions.scores.get(i).map_or(String::new(), |&s| self.number(s))));
        let length = features.unwrap_or(0);
        row.extend((0..length).map(|i| predictions.features.get(i).map_or(String::new(), f32::to_string)));
        row.push(error);
        self.writer.write_record(row).map_err(wrapped)
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(failed)
    }
}
