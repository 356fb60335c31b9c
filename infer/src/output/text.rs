//! Rows as text for reading: `photo.jpg: cat 97.3 %, dog 1.2 %`.

use std::io::{BufWriter, Write};

use super::{Sink, failed, one_line};
use crate::Result;
use crate::answer::{AnswerOptions, Predictions, Score};

pub(super) struct Text<'a, W: Write> {
    writer: BufWriter<W>,
    view: &'a AnswerOptions,
}

impl<'a, W: Write> Text<'a, W> {
    pub(super) fn new(to: W, view: &'a AnswerOptions) -> Self {
        Text { writer: BufWriter::new(to), view }
    }
}

impl<W: Write> Sink for Text<'_, W> {
    fn write(&mut self, path: &str, predictions: std::result::Result<&Predictions, &str>) -> Result<()> {
        let text = match predictions {
            Err(reason) => format!("error: {}", one_line(reason)),
            Ok(predictions) if predictions.predictions.is_empty() => "nothing above the threshold".into(),
            Ok(predictions) => {
                let one = |&(index, score): &(usize, f64)| {
                    let label = &self.view.labels[index];
                    match self.view.score {
                        Score::Probability => format!("{label} {:.1} %", 100.0 * score),
                        Score::Logit => format!("{label} {score:.3}"),
                    }
                };
                predictions.predictions.iter().map(one).collect::<Vec<_>>().join(", ")
            }
        };
        writeln!(self.writer, "{path}: {text}").map_err(failed)
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(failed)
    }
}
