//! Log of evaluated architectures. Each evaluation is written as soon as it is made, so that none is repeated.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use milenas_models::input::ImageSize;
use milenas_models::{Genotype, file};

use crate::strategy::black_box::{Evaluated, ShortRun};
use crate::{Error, Result};

/// Header line with the names of the columns.
const HEAD: &str = "architecture,value\n";
/// Header line of a race.
const RACE_HEAD: &str = "architecture,rung,steps,height,width,seed,value\n";
/// Largest file that is read, in bytes: a hundred thousand rows.
const MAX_BYTES: u64 = 64 << 20;

/// Log file, with the evaluations of an interrupted run that have not been requested again.
#[derive(Debug)]
pub(super) struct EvaluationLog {
    file: File,
    path: PathBuf,
    known: VecDeque<Evaluated>,
    count: usize,
}

impl EvaluationLog {
    /// Creates an empty log; rows of a `race` have its trainings.
    pub(super) fn create(path: &Path, race: bool) -> Result<Self> {
        Self::open(path, 0, VecDeque::new(), race)
    }

    /// Opens a log, and removes an incomplete last row.
    ///
    /// # Errors
    /// Fails for an invalid row.
    pub(super) fn reopen(path: &Path, race: bool) -> Result<Self> {
        let (known, whole) = rows(path)?;
        Self::open(path, whole, known.into(), race)
    }

    fn open(path: &Path, length: u64, known: VecDeque<Evaluated>, race: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(false).open(path).map_err(Error::io(path))?;
        file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(Error::io(path))?;
        if length == 0 {
            let head = if race { RACE_HEAD } else { HEAD };
            file.write_all(head.as_bytes()).map_err(Error::io(path))?;
        }
        Ok(EvaluationLog { file, path: path.to_path_buf(), known, count: 0 })
    }

    /// Returns the number of stored evaluations that have not been requested again.
    pub(super) fn left(&self) -> usize {
        self.known.len()
    }

    /// Returns the number of requested evaluations.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the value of an architecture from the log, or computes it by `evaluate` and appends it.
    ///
    /// # Errors
    /// Fails if `evaluate` fails, or if the next stored row is of another architecture.
    pub(super) fn value(
        &mut self,
        genotype: &Genotype,
        run: Option<ShortRun>,
        evaluate: impl FnOnce() -> Result<f64>,
    ) -> Result<f64> {
        self.count += 1;
        match self.known.pop_front() {
            Some(known) if known.genotype == *genotype && known.run == run => Ok(known.value),
            Some(_) => {
                Err(damaged(&self.path, self.count, "belongs to another architecture than the next one"))
            }
            None => {
                let value = evaluate()?;
                // The format is read back bit for bit, infinities included.
                let run = run.map(|ShortRun { rung, steps, size: ImageSize { height, width }, seed }| {
                    format!("{rung},{steps},{height},{width},{seed},")
                });
                let row = format!("\"{genotype}\",{}{value}\n", run.unwrap_or_default());
                self.file.write_all(row.as_bytes()).map_err(Error::io(&self.path))?;
                Ok(value)
            }
        }
    }
}

/// Reads the complete rows of a file, and returns the byte at which they end. A missing file has no rows. The
/// file is not changed, since another program may be writing it.
///
/// # Errors
/// Fails for an invalid row.
fn rows(path: &Path) -> Result<(Vec<Evaluated>, u64)> {
    let text = match path.exists() {
        true => String::from_utf8_lossy(&file::read(path, MAX_BYTES)?).into_owned(),
        false => String::new(),
    };
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let row = |(row, line)| parse(line).ok_or_else(|| damaged(path, row, "is not an evaluation"));
    Ok((whole.lines().enumerate().skip(1).map(row).collect::<Result<_>>()?, whole.len() as u64))
}

/// Returns the evaluations of a search so far, in order.
///
/// # Errors
/// Fails for an invalid row.
pub fn read_evaluations(path: &Path) -> Result<Vec<Evaluated>> {
    Ok(rows(path)?.0)
}

fn damaged(path: &Path, row: usize, problem: &str) -> Error {
    let problem = format!(
        "row {row} {problem}. help: restore the file from a copy, or start a new run in another folder"
    );
    Error::Resume { place: path.display().to_string(), problem }
}

fn parse(line: &str) -> Option<Evaluated> {
    let (name, rest) = line.strip_prefix('"')?.split_once("\",")?;
    let fields: Vec<&str> = rest.split(',').collect();
    let (run, value) = match fields[..] {
        [value] => (None, value),
        [rung, steps, height, width, seed, value] => {
            let size = ImageSize { height: height.parse().ok()?, width: width.parse().ok()? };
            let (rung, steps, seed) = (rung.parse().ok()?, steps.parse().ok()?, seed.parse().ok()?);
            (Some(ShortRun { rung, steps, size, seed }), value)
        }
        _ => return None,
    };
    Some(Evaluated { genotype: Genotype::parse(name, "row").ok()?, value: value.parse().ok()?, run })
}

#[cfg(test)]
mod tests {
    use milenas_models::Rng;
    use milenas_models::space;

    use super::*;

    #[test]
    fn complete_rows_survive_truncation() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("history.csv");
        let mut rng = Rng::new(0, "x");
        for (number, space) in space::SPACES.into_iter().enumerate() {
            let race = number % 2 == 1;
            let size = ImageSize { height: 16, width: 24 };
            let run = race.then_some(ShortRun { rung: 2, steps: 300, size, seed: u64::MAX });
            let all: Vec<Genotype> = (0..4).map(|_| space.sample(&mut rng).unwrap()).collect();
            let values = [0.1 + 0.2, f64::NEG_INFINITY, 1.0 / 3.0, -0.0];
            let evaluate_all = |mut log: EvaluationLog| {
                let mut evaluated = 0;
                for (genotype, value) in all.iter().zip(values) {
                    let found = log.value(genotype, run, || {
                        evaluated += 1;
                        Ok(value)
                    });
                    assert_eq!(found.unwrap().to_bits(), value.to_bits());
                }
                evaluated
            };
            assert_eq!(evaluate_all(EvaluationLog::create(&path, race).unwrap()), 4);
            let whole = std::fs::read(&path).unwrap();
            for length in 0..=whole.len() {
                std::fs::write(&path, &whole[..length]).unwrap();
                let rows = whole[..length].iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
                let log = EvaluationLog::reopen(&path, race).unwrap();
                assert_eq!((log.left(), read_evaluations(&path).unwrap().len()), (rows, rows));
                assert_eq!(evaluate_all(log), 4 - rows, "{length} bytes");
                assert!(std::fs::read(&path).unwrap() == whole, "{length} bytes");
            }
            let mut log = EvaluationLog::reopen(&path, race).unwrap();
            let message = log.value(&all[1], run, || Ok(0.0)).unwrap_err().to_string();
            assert!(message.contains("history.csv: row 1 belongs to another architecture"), "{message}");
            let other = Some(ShortRun { rung: 3, steps: 300, size, seed: 0 });
            let mut log = EvaluationLog::reopen(&path, race).unwrap();
            assert!(log.value(&all[0], other, || Ok(0.0)).is_err());
            assert!(read_evaluations(&path).unwrap().iter().all(|found| found.run == run));
            std::fs::write(&path, "architecture,value\n\"x\",1\n").unwrap();
            let message = EvaluationLog::reopen(&path, race).unwrap_err().to_string();
            assert!(message.contains("row 1 is not an evaluation"), "{message}");
        }
    }
}
