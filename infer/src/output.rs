//! Writes results as rows in the order of the inputs, in one of several formats, and flushes them after each
//! batch.

mod csv;
mod jsonl;
#[cfg_attr(not(feature = "parquet"), path = "output/no_parquet.rs")]
mod parquet;
#[cfg(test)]
mod tests;
mod text;

use std::io::Write;

use crate::answer::{AnswerOptions, Predictions};
use crate::{Error, Result};

/// Format of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// Columns `path,label,index,score`, then `label_2,index_2,score_2` and so on, and `error` last.
    Csv,
    /// Objects `{"path", "predictions": [{"label", "index", "score"}], "error"}`, one per line.
    Jsonl,
    /// Apache Parquet with the columns of CSV. An interrupted run leaves a file without rows. Needs the
    /// feature `parquet`.
    Parquet,
    /// Text for reading, which cannot be parsed back.
    Text,
}

impl RowFormat {
    /// Returns an error if this build lacks the format: [`Error::Feature`].
    pub fn available(self) -> Result<()> {
        match self {
            RowFormat::Parquet => parquet::available(),
            RowFormat::Csv | RowFormat::Jsonl | RowFormat::Text => Ok(()),
        }
    }

    /// Returns whether rows are written one by one and can be read back row by row.
    pub fn grows(self) -> bool {
        match self {
            RowFormat::Csv | RowFormat::Jsonl => true,
            RowFormat::Parquet | RowFormat::Text => false,
        }
    }
}

/// Writer of rows.
pub trait Sink {
    /// Writes the row of `path`: predictions, or the reason why there are none.
    fn write(&mut self, path: &str, predictions: std::result::Result<&Predictions, &str>) -> Result<()>;

    /// Flushes the written rows to the output.
    fn flush(&mut self) -> Result<()>;

    /// Ends the output. No more rows may follow.
    fn close(&mut self) -> Result<()> {
        self.flush()
    }
}

/// Opens a sink of this format on `to`. If `fresh`, the output is empty and a header is written.
///
/// # Errors
/// [`Error::Output`] if the header cannot be written; [`Error::Feature`] for a format that this build lacks.
pub fn open<'a>(
    format: RowFormat,
    to: Box<dyn Write + Send + 'a>,
    view: &'a AnswerOptions,
    fresh: bool,
) -> Result<Box<dyn Sink + 'a>> {
    Ok(match format {
        RowFormat::Csv => Box::new(csv::Csv::new(to, view, fresh)?),
        RowFormat::Jsonl => Box::new(jsonl::Jsonl::new(to, view)),
        RowFormat::Parquet => parquet::open(to, view)?,
        RowFormat::Text => Box::new(text::Text::new(to, view)),
    })
}

/// Returns the header of a CSV with these options.
pub(crate) fn columns(view: &AnswerOptions) -> Vec<String> {
    csv::columns(view)
}

/// Returns the keys of a JSON line with these options.
pub(crate) fn keys(view: &AnswerOptions) -> Vec<&'static str> {
    jsonl::keys(view)
}

/// Replaces control characters in a reason by spaces, so that a CSV row has one line.
fn one_line(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn failed(error: std::io::Error) -> Error {
    Error::Output(error)
}
