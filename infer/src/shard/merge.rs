//! Merges the outputs of all shards into one, in the order of the inputs.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Receipt, Shard};
use crate::output::RowFormat;
use crate::{Error, Result};

/// Counts of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Number of rows.
    pub rows: usize,
    /// Number of rows with an error.
    pub failed: usize,
}

/// Writes the rows of `parts` to `to` as a run without shards would have written them. Parts are given in any
/// order.
///
/// # Errors
/// [`Error::Part`] for a part that is missing, given twice, incomplete or of another run, or whose number of
/// rows differs from its receipt. [`Error::Nothing`] without parts, and [`Error::Input`] or [`Error::Output`]
/// for I/O errors.
pub fn merge(parts: &[PathBuf], format: RowFormat, to: impl Write) -> Result<Merged> {
    let mut receipts = Vec::new();
    for path in parts {
        receipts.push((Receipt::read(path)?, path.as_path()));
    }
    receipts.sort_by_key(|(receipt, _)| receipt.shard.index);
    check(&receipts)?;
    let mut to = BufWriter::new(to);
    let mut readers = Vec::new();
    for (_, path) in &receipts {
        let opened = File::open(path).map_err(|source| Error::Input { path: path.to_path_buf(), source })?;
        readers.push(RowReader { reader: BufReader::new(opened), path, format, row: Vec::new() });
    }
    if format == RowFormat::Csv {
        let mut header: Option<Vec<u8>> = None;
        for rows in &mut readers {
            let path = rows.path;
            let found = rows.next()?.ok_or_else(|| refused(path, "it has no header"))?.to_vec();
            if header.as_ref().is_some_and(|header| *header != found) {
                return Err(refused(path, "its columns are not those of the others"));
            }
            header = Some(found);
        }
        to.write_all(&header.unwrap_or_default()).map_err(Error::Output)?;
    }
    let all = receipts.iter().map(|(receipt, _)| receipt.rows).sum();
    for place in 0..all {
        let rows = &mut readers[place % receipts.len()];
        let path = rows.path;
        let row = rows.next()?.ok_or_else(|| refused(path, "it has fewer rows than its receipt records"))?;
        to.write_all(row).map_err(Error::Output)?;
    }
    for rows in &mut readers {
        if rows.next()?.is_some() {
            return Err(refused(rows.path, "it has more rows than its receipt records"));
        }
    }
    to.flush().map_err(Error::Output)?;
    Ok(Merged { rows: all, failed: receipts.iter().map(|(receipt, _)| receipt.failed).sum() })
}

fn refused(path: &Path, problem: &str) -> Error {
    Error::Part { path: path.to_path_buf(), problem: problem.into() }
}

/// Checks that the sorted receipts are those of all shards of one run.
fn check(receipts: &[(Receipt, &Path)]) -> Result<()> {
    let Some((first, _)) = receipts.first() else { return Err(Error::Nothing) };
    let (count, inputs) = (first.shard.count, first.inputs);
    for (i, (receipt, path)) in receipts.iter().enumerate() {
        let Receipt { shard, rows, .. } = receipt;
        if shard.count != count {
            return Err(refused(path, &format!("it is one of {} shards, others of {count}", shard.count)));
        }
        if shard.index < i {
            return Err(refused(path, &format!("shard {} is given twice", shard.index)));
        }
        if shard.index > i {
            return Err(refused(path, &format!("shard {i} of {count} is not among the parts")));
        }
        let expected = Shard { index: i, count }.share(inputs);
        if receipt.inputs != inputs || *rows != expected {
            let problem = format!(
                "{rows} rows of {} inputs, expected {expected} of {inputs}: did all shards see the same inputs?",
                receipt.inputs
            );
            return Err(refused(path, &problem));
        }
        if receipt.names != first.names {
            let problem =
                "its shard saw other inputs than the others, or by other names: all must be given the same";
            return Err(refused(path, problem));
        }
        if let Some(difference) = first.made.difference(&receipt.made) {
            return Err(refused(path, &format!("of the first shard, {difference}")));
        }
    }
    match receipts.len() == count {
        true => Ok(()),
        false => Err(refused(receipts[0].1, &format!("{} of {count} shards are given", receipts.len()))),
    }
}

/// Reader of rows, including their line ends.
struct RowReader<'a> {
    reader: BufReader<File>,
    path: &'a Path,
    format: RowFormat,
    row: Vec<u8>,
}

impl RowReader<'_> {
    fn next(&mut self) -> Result<Option<&[u8]>> {
        self.row.clear();
        loop {
            let read = self.reader.read_until(b'\n', &mut self.row);
            let read = read.map_err(|source| Error::Input { path: self.path.to_path_buf(), source })?;
            // In a CSV, a line feed between quotes belongs to the row. A quote inside quotes is doubled.
            let open =
                self.format == RowFormat::Csv && self.row.iter().filter(|b| **b == b'"').count() % 2 == 1;
            match (read, open) {
                (0, _) if self.row.is_empty() => return Ok(None),
                (0, _) => return Err(refused(self.path, "its last row is torn")),
                (_, false) => return Ok(Some(&self.row)),
                (_, true) => {}
            }
        }
    }
}
