//! Where results go: rows in the order of the inputs, in one of several formats, flushed batch by batch.

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

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// `path,label,index,score`, then `label_2,index_2,score_2` and so on, `error` last.
    Csv,
    /// `{"path", "predictions": [{"label", "index", "score"}], "error"}`.
    Jsonl,
    /// The columns of CSV; a file that is stopped has no rows. Needs the feature `parquet`.
    Parquet,
    /// For the eye.
    Text,
}

impl RowFormat {
    /// Refuses a format that this build was made without.
    pub fn available(self) -> Result<()> {
        match self {
            RowFormat::Parquet => parquet::available(),
            RowFormat::Csv | RowFormat::Jsonl | RowFormat::Text => Ok(()),
        }
    }

    /// Whether what is written stands there, and can be read back row by row.
    pub fn grows(self) -> bool {
        match self {
            RowFormat::Csv | RowFormat::Jsonl => true,
            RowFormat::Parquet | RowFormat::Text => false,
        }
    }
}

/// Takes rows.
pub trait Sink {
    /// Writes the row of `path`: predictions, or the reason why there are none.
    fn write(&mut self, path: &str, told: std::result::Result<&Predictions, &str>) -> Result<()>;

    /// Puts what was written out of the program's hands.
    fn flush(&mut self) -> Result<()>;

    /// Nothing more comes.
    fn close(&mut self) -> Result<()> {
        self.flush()
    }
}

/// A sink of this format; `fresh` when nothing was written before, and so a header is due.
///
/// # Errors
/// A header that cannot be written; a format that this build lacks.
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

/// The header of a CSV with this view.
pub(crate) fn columns(view: &AnswerOptions) -> Vec<String> {
    csv::columns(view)
}

/// The keys of a JSON line with this view.
pub(crate) fn keys(view: &AnswerOptions) -> Vec<&'static str> {
    jsonl::keys(view)
}

/// A reason on one line, so that a row of a CSV ends only where a line does.
fn one_line(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn failed(error: std::io::Error) -> Error {
    Error::Output(error)
}
