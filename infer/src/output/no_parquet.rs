//! Replacement for Parquet in a build without the feature. Its error explains how to get the feature.

use std::io::Write;

use super::Sink;
use crate::answer::AnswerOptions;
use crate::{Error, Result};

pub(super) fn open<'a>(_: Box<dyn Write + Send + 'a>, _: &'a AnswerOptions) -> Result<Box<dyn Sink + 'a>> {
    Err(missing())
}

/// Returns [`Error::Feature`]: this build cannot write Parquet.
pub(super) fn available() -> Result<()> {
    Err(missing())
}

fn missing() -> Error {
    let help = "build it with the cargo feature `parquet`, or write csv or jsonl, of which \
                DuckDB, Polars and pandas make Parquet";
    Error::Feature { feature: "Parquet", help }
}
