//! Resumes an interrupted run from its output. A torn last row is removed.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::{File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use crate::answer::AnswerOptions;
use crate::output::{self, RowFormat, columns, keys};
use crate::{Error, Result};

/// Counts of the rows of each path in an output. A path takes some forty bytes of memory, whatever its
/// length.
#[derive(Debug, Default)]
pub struct FinishedRows {
    left: HashMap<[u64; 2], u32>,
    /// Number of rows in the output.
    pub rows: usize,
    /// Number of rows with an error.
    pub failed: usize,
}

impl FinishedRows {
    /// Returns whether a row of this input remains that no earlier input has claimed, and claims it.
    pub fn claim(&mut self, path: &str) -> bool {
        let Some(count) = self.left.get_mut(&digest(path)) else { return false };
        *count -= 1;
        if *count == 0 {
            self.left.remove(&digest(path));
        }
        true
    }

    fn add(&mut self, path: &str, failed: bool) {
        *self.left.entry(digest(path)).or_default() += 1;
        self.rows += 1;
        self.failed += usize::from(failed);
    }
}

fn digest(path: &str) -> [u64; 2] {
    [0u8, 1].map(|half| {
        let mut hasher = DefaultHasher::new();
        (half, path).hash(&mut hasher);
        hasher.finish()
    })
}

/// Opens the output of an interrupted run and removes a torn last row. Returns the file, its finished rows,
/// and `fresh`: true if even the header is missing. If the file does not exist, an empty one is created.
///
/// # Errors
/// [`Error::Resume`] if the file is not an output with these options, or its format cannot be resumed.
/// [`Error::Input`] if the file cannot be opened,
/// [`Error::Output`] if it cannot be read.
pub fn reopen(path: &Path, format: RowFormat, view: &AnswerOptions) -> Result<(File, FinishedRows, bool)> {
    if !format.grows() {
        return Err(other(
            path,
            "text and Parquet cannot be resumed; use csv or jsonl with setting `resume`",
        ));
    }
    let failed = |source| Error::Input { path: path.to_path_buf(), source };
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok((File::create_new(path).map_err(failed)?, FinishedRows::default(), true));
        }
        opened => opened.map_err(failed)?,
    };
    let (done, whole) = match format {
        RowFormat::Csv => rows(&file, path, view)?,
        RowFormat::Jsonl | RowFormat::Parquet | RowFormat::Text => lines(&file, path, view)?,
    };
    if whole == 0 {
        begins(&mut file, path, format, view)?;
    }
    file.set_len(whole).map_err(failed)?;
    file.seek(SeekFrom::Start(whole)).map_err(failed)?;
    Ok((file, done, whole == 0))
}

fn other(path: &Path, problem: impl Into<String>) -> Error {
    Error::Resume { path: path.to_path_buf(), problem: problem.into() }
}

/// Refuses a file that has no complete row and is not the beginning of an output either.
fn begins(file: &mut File, path: &Path, format: RowFormat, view: &AnswerOptions) -> Result<()> {
    let mut expected = Vec::new();
    match format {
        RowFormat::Csv => drop(output::open(format, Box::new(&mut expected), view, true)?),
        RowFormat::Jsonl | RowFormat::Parquet | RowFormat::Text => expected.extend_from_slice(b"{\"path\":"),
    }
    let mut found = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(Error::Output)?;
    file.take(expected.len() as u64).read_to_end(&mut found).map_err(Error::Output)?;
    match expected.starts_with(&found) {
        true => Ok(()),
        false => Err(other(path, "it does not begin as the results of this program do")),
    }
}

/// Returns the rows of a CSV and the byte offset behind the last complete one.
fn rows(file: &File, path: &Path, view: &AnswerOptions) -> Result<(FinishedRows, u64)> {
    let (mut done, mut whole) = (FinishedRows::default(), 0);
    let length = file.metadata().map_err(Error::Output)?.len();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
    let mut row = csv::StringRecord::new();
    let expected = columns(view);
    loop {
        match reader.read_record(&mut row) {
            Ok(true) => {}
            Ok(false) => return Ok((done, whole)),
            // A row that was cut inside a UTF-8 character.
            Err(_) if reader.position().byte() == length => return Ok((done, whole)),
            Err(error) => return Err(other(path, error.to_string())),
        }
        let end = reader.position().byte();
        let last = end == length;
        // The last row is complete if its line feed was written. Only the path and labels can contain a line
        // feed, and in a row torn there the columns behind it are missing.
        if row.len() != expected.len() || (last && !ends_line(file, end)?) {
            match last {
                true => return Ok((done, whole)),
                false => {
                    let problem = format!("a row of {} columns, expected {}", row.len(), expected.len());
                    return Err(other(path, format!("byte {whole}: {problem}")));
                }
            }
        }
        if whole == 0 {
            if row.iter().ne(expected.iter().map(String::as_str)) {
                let found: Vec<&str> = row.iter().collect();
                let problem =
                    format!("its header is {}, this run writes {}", found.join(","), expected.join(","));
                return Err(other(path, problem));
            }
        } else {
            done.add(&row[0], !row[expected.len() - 1].is_empty());
        }
        whole = end;
    }
}

/// Returns whether the byte before `end` is a line feed.
fn ends_line(mut file: &File, end: u64) -> Result<bool> {
    let mut byte = [0];
    let place = file.stream_position().map_err(Error::Output)?;
    file.seek(SeekFrom::Start(end.saturating_sub(1))).map_err(Error::Output)?;
    file.read_exact(&mut byte).map_err(Error::Output)?;
    file.seek(SeekFrom::Start(place)).map_err(Error::Output)?;
    Ok(byte[0] == b'\n')
}

/// Returns the rows of a JSON lines file and the byte offset behind the last complete one.
fn lines(file: &File, path: &Path, view: &AnswerOptions) -> Result<(FinishedRows, u64)> {
    let (mut done, mut whole) = (FinishedRows::default(), 0);
    let expected = keys(view);
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(Error::Output)? as u64;
        if line.last() != Some(&b'\n') {
            return Ok((done, whole));
        }
        let problem = |problem: String| other(path, format!("line {}: {problem}", done.rows + 1));
        let value: Value = serde_json::from_slice(&line).map_err(|e| problem(e.to_string()))?;
        let found: Vec<&String> = value.as_object().into_iter().flat_map(|object| object.keys()).collect();
        let same = found.len() == expected.len() && expected.iter().all(|&key| value.get(key).is_some());
        let (true, Some(name)) = (same, value["path"].as_str()) else {
            return Err(problem(format!("its keys are {found:?}, this run writes {expected:?}")));
        };
        done.add(name, !value["error"].is_null());
        whole += length;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::answer::{OutputMeaning, Predictions, Score};

    fn view() -> AnswerOptions {
        AnswerOptions {
            labels: ["a", "b\nc"].map(String::from).to_vec(),
            top_k: 1,
            threshold: None,
            score: Score::Probability,
            meaning: OutputMeaning::Logits,
            all_scores: false,
            features: None,
        }
    }

    const PATHS: [&str; 5] = ["1.png", "line\nfeed,\"2\".png", "3.png", "3.png", "ü.png"];

    fn rows(
        view: &AnswerOptions,
        format: RowFormat,
        paths: &[&str],
        to: Box<dyn std::io::Write + Send + '_>,
        fresh: bool,
    ) {
        let mut sink = output::open(format, to, view, fresh).unwrap();
        for path in paths {
            let predictions =
                Predictions { predictions: vec![(path.len() % 2, 0.5)], ..Predictions::default() };
            let row = if *path == "1.png" { Err("it is\nbroken") } else { Ok(&predictions) };
            sink.write(path, row).unwrap();
        }
        sink.flush().unwrap();
    }

    #[test]
    fn cut_anywhere_it_becomes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (path, view) = (folder.path().join("out"), view());
        for format in [RowFormat::Csv, RowFormat::Jsonl] {
            let mut whole = Vec::new();
            rows(&view, format, &PATHS, Box::new(&mut whole), true);
            for length in 0..=whole.len() {
                fs::write(&path, &whole[..length]).unwrap();
                let (file, mut done, fresh) = reopen(&path, format, &view).unwrap();
                assert_eq!(done.failed, done.rows.min(1), "{format:?}, {length} bytes");
                let left: Vec<&str> = PATHS.into_iter().filter(|path| !done.claim(path)).collect();
                assert_eq!(left.len() + done.rows, PATHS.len());
                rows(&view, format, &left, Box::new(file), fresh);
                assert!(fs::read(&path).unwrap() == whole, "{format:?}, {length} bytes");
            }
        }
    }

    #[test]
    fn another_output_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let wide = AnswerOptions { top_k: 2, ..view() };
        rows(&wide, RowFormat::Csv, &PATHS, Box::new(File::create(&path).unwrap()), true);
        let before = fs::read(&path).unwrap();
        for (format, expected) in
            [(RowFormat::Csv, "expected 5"), (RowFormat::Jsonl, "line 1"), (RowFormat::Text, "csv or jsonl")]
        {
            let error = reopen(&path, format, &view()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("out"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), before);
        }
        fs::write(&path, "my notes").unwrap();
        for format in [RowFormat::Csv, RowFormat::Jsonl] {
            let error = reopen(&path, format, &view()).unwrap_err().to_string();
            assert!(error.contains("does not begin"), "{error}");
        }
    }
}
