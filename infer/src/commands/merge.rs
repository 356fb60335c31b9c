//! Put the results of shards together.

use std::fs::File;
use std::io::stdout;

use anyhow::{Context, Result, bail};
use milenas_infer::output::Format;
use milenas_infer::shard::merge;

use crate::cli::{Merge, by_ending};

pub(super) fn execute(asked: &Merge) -> Result<bool> {
    let format = by_ending(asked.parts.first().map(|part| part.as_path()));
    if format == Format::Text {
        bail!("text cannot be merged. Help: csv or jsonl can");
    }
    let merged = match &asked.output {
        None => merge(&asked.parts, format, stdout().lock())?,
        Some(path) => {
            // The name is given to a whole file only.
            let mut name = path.clone().into_os_string();
            name.push(format!(".{}.tmp", std::process::id()));
            let file = File::create(&name).with_context(|| path.display().to_string())?;
            let merged = merge(&asked.parts, format, file)
                .map_err(anyhow::Error::from)
                .and_then(|merged| Ok(std::fs::rename(&name, path).map(|()| merged)?));
            merged.inspect_err(|_| {
                // The error that matters is the one being reported.
                let _ = std::fs::remove_file(&name);
            })?
        }
    };
    eprintln!("{} rows of {} parts, {} of them with an error", merged.rows, asked.parts.len(), merged.failed);
    Ok(merged.failed == 0)
}
