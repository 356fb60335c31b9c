//! Merge of the outputs of shards.

use std::io::stdout;

use crate::console::note;
use anyhow::{Result, bail};
use milenas_infer::shard::{Merged, Receipt, merge};
use milenas_models::file;

use crate::cli::{Merge, format_of};

pub(super) fn execute(asked: &Merge) -> Result<bool> {
    let format = format_of(asked.format, asked.parts.first().map(|part| part.as_path()))?;
    if !format.grows() {
        bail!("text and Parquet cannot be merged. help: csv and jsonl can");
    }
    if let Some(output) = &asked.output {
        let receipts: Vec<_> = asked.parts.iter().map(|part| Receipt::path(part)).collect();
        let parts = asked.parts.iter().map(|part| ("a part", part.as_path()));
        let receipts = receipts.iter().map(|receipt| ("the receipt of a part", receipt.as_path()));
        file::check_outputs(&[("-o", output)], &parts.chain(receipts).collect::<Vec<_>>())?;
    }
    let merged = match &asked.output {
        None => merge(&asked.parts, format, stdout().lock())?,
        Some(path) => file::write_with(path, |file| merge(&asked.parts, format, file))?,
    };
    let (Merged { rows, failed }, parts) = (merged, asked.parts.len());
    note(format_args!("{rows} rows of {parts} parts, {failed} of them with an error"));
    Ok(failed == 0)
}
