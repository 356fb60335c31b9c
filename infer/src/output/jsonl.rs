//! Rows as JSON lines, one object per line.

use std::io::{BufWriter, Write};

use serde::Serialize;

use super::{Sink, failed, one_line};
use crate::Result;
use crate::answer::{AnswerOptions, Predictions};

pub(super) struct Jsonl<'a, W: Write> {
    writer: BufWriter<W>,
    view: &'a AnswerOptions,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    path: &'a str,
    predictions: Vec<JsonPrediction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<&'a [f64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<&'a [f32]>,
    error: Option<String>,
}

#[derive(Serialize)]
struct JsonPrediction<'a> {
    label: &'a str,
    index: usize,
    score: f64,
}

/// Returns the keys of a line, in the order of writing.
pub(super) fn keys(view: &AnswerOptions) -> Vec<&'static str> {
    let some = |asked: bool, key| asked.then_some(key);
    let optional = [some(view.all_scores, "scores"), some(view.features.is_some(), "features")];
    ["path", "predictions"].into_iter().chain(optional.into_iter().flatten()).chain(["error"]).collect()
}

impl<'a, W: Write> Jsonl<'a, W> {
    pub(super) fn new(to: W, view: &'a AnswerOptions) -> Self {
        Jsonl { writer: BufWriter::new(to), view }
    }
}

impl<W: Write> Sink for Jsonl<'_, W> {
    fn write(&mut self, path: &str, predictions: std::result::Result<&Predictions, &str>) -> Result<()> {
        let empty = Predictions::default();
        let (predictions, error) = match predictions {
            Ok(predictions) => (predictions, None),
            Err(reason) => (&empty, Some(one_line(reason))),
        };
        let named = |&(index, score): &(usize, f64)| {
            let label = self.view.labels[index].as_str();
            JsonPrediction { label, index, score }
        };
        let line = JsonLine {
            path,
            predictions: predictions.predictions.iter().map(named).collect(),
            scores: self.view.all_scores.then_some(&*predictions.scores),
            features: self.view.features.map(|_| &*predictions.features),
            error,
        };
        serde_json::to_writer(&mut self.writer, &line).map_err(|e| failed(e.into()))?;
        self.writer.write_all(b"\n").map_err(failed)
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(failed)
    }
}
