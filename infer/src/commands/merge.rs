//! Put the results of shards together.

use std::io::stdout;

use anyhow::{Result, bail};
use milenas_infer::shard::merge;
use milenas_models::file;

use crate::cli::{Merge, by_ending};

pub(super) fn execute(asked: &Merge) -> Result<bool> {
    let format = by_ending(asked.parts.first().map(|part| part.as_path()));
    if !format.grows() {
        bail!("text and Parquet cannot be merged. Help: csv and jsonl can");
    }
    let merged = match &asked.output {
        None => merge(&asked.parts, format, stdout().lock())?,
        Some(path) => file::write_with(path, |file| merge(&asked.parts, format, file))?,
    };
    eprintln!("{} rows of {} parts, {} of them with an error", merged.rows, asked.parts.len(), merged.failed);
    Ok(merged.failed == 0)
}
