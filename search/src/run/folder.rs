//! Folder of a run: its configuration, and line-based files that grow during the run.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use milenas_models::file;
use milenas_models::images::Source;
use milenas_models::memory::peak_mib;
use serde::{Deserialize, Serialize};

use super::{CHECKPOINT, CONFIG, COST, DRAWS, GENOTYPE, HISTORY, NewFiles, SOURCE, START};
use crate::checkpoint::Position;
use crate::config::Config;
use crate::next::{NextStep, StepText};
use crate::report;
use crate::tensorboard::{self, EventFile, Scalars};
use crate::{Error, Result};

/// File name of the records, one line per epoch.
pub const METRICS: &str = "metrics.jsonl";
/// File name of the timings, one line per checkpoint.
pub const TIMINGS: &str = "timings.jsonl";
const TENSORBOARD: &str = "tensorboard";
/// Names of the files that a run writes before its first checkpoint or evaluation, besides the line-based ones. The
/// checkpoint of a black-box search comes before its first evaluation.
const NEW: [&str; 9] = [CONFIG, SOURCE, report::REPORT, START, COST, GENOTYPE, CHECKPOINT, HISTORY, DRAWS];
/// Minimum time between two writes of the report within an epoch.
const PAGE: Duration = Duration::from_secs(30);
/// Time to wait for another program to release a folder.
const PATIENCE: Duration = Duration::from_secs(1);

/// Line of `timings.jsonl`: time since the previous line, or since the start of the program. Work that an
/// interruption lost is not counted, and repeated work is counted twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timing {
    epoch: usize,
    step: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Peak memory of the program in MiB, if the system reports it.
    pub peak_mib: Option<f64>,
    /// Kind of device, without the index of a GPU.
    pub device: Option<String>,
}

impl Timing {
    /// Returns the epoch in which the time was spent.
    pub fn spent_in(&self) -> usize {
        match self.step {
            0 => self.epoch.saturating_sub(1),
            _ => self.epoch,
        }
    }
}

/// Folder of a run, locked against other programs. Its files are written atomically, except line-based files,
/// which are appended to. If a new run fails before its first checkpoint, record or evaluation, the files that it
/// created are removed.
#[derive(Debug)]
pub struct Folder {
    /// First field, so that files are removed before the lock is released.
    new: NewFiles,
    path: PathBuf,
    metrics: File,
    timings: File,
    events: EventFile,
    spent: f64,
    /// Time of the last write of the report.
    paged: Option<Instant>,
    /// Wording of the next step in the report.
    step_text: StepText,
}

impl Folder {
    /// Creates the folder, and writes the resolved configuration and the image source into it.
    ///
    /// # Errors
    /// Fails for a folder that holds a finished run or is in use by another program.
    pub fn create(path: &Path, config: &Config, source: &Source, result: &str) -> Result<Self> {
        if path.join(result).exists() {
            let problem = format!(
                "{} already holds {result}. help: choose another run folder, or remove this one",
                path.display()
            );
            return Err(Error::Data { problem });
        }
        let mut new = NewFiles::default();
        [METRICS, TIMINGS].iter().for_each(|name| new.add(&path.join(name)));
        fs::create_dir_all(path).map_err(Error::io(path))?;
        let folder = Self::open(path, config, source, 0, new)?;
        for (file, name) in [(&folder.metrics, METRICS), (&folder.timings, TIMINGS)] {
            file.set_len(0).map_err(Error::io(path.join(name)))?;
        }
        Ok(folder)
    }

    /// Opens the folder at the start of `epoch`: later lines and incomplete lines are removed.
    ///
    /// # Errors
    /// Fails for fewer lines than epochs, for a line that is no record of its epoch, and for a folder in use by
    /// another program.
    pub fn reopen(path: &Path, config: &Config, source: &Source, epoch: usize) -> Result<Self> {
        let mut folder = Self::open(path, config, source, epoch, NewFiles::default())?;
        folder.keep();
        let name = path.join(METRICS);
        let other = |problem: String| {
            let problem = format!(
                "{problem}. help: restore the file from a copy, or start a new run in another folder"
            );
            Error::Resume { place: name.display().to_string(), problem }
        };
        let mut lines = 0;
        cut(&mut folder.metrics, &name, |line| {
            if lines == epoch {
                return Ok(false);
            }
            let record: serde_json::Value = serde_json::from_slice(line)
                .map_err(|e| other(format!("line {} cannot be read: {e}", lines + 1)))?;
            if record["epoch"] != lines {
                return Err(other(format!("line {} does not belong to epoch {lines}", lines + 1)));
            }
            lines += 1;
            Ok(true)
        })?;
        if lines < epoch {
            return Err(other(format!("it has {lines} records, expected {epoch} as in the checkpoint")));
        }
        let mut spent = 0.0;
        cut(&mut folder.timings, &path.join(TIMINGS), |line| {
            let timing = serde_json::from_slice::<Timing>(line).ok();
            spent += timing.as_ref().map_or(0.0, |timing| timing.seconds);
            Ok(timing.is_some())
        })?;
        folder.spent = spent;
        Ok(folder)
    }

    fn open(path: &Path, config: &Config, source: &Source, epoch: usize, mut new: NewFiles) -> Result<Self> {
        let lines = |name| {
            let path = path.join(name);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).map_err(Error::io(&path)).map(|file| (file, path))
        };
        let ((metrics, name), (timings, _)) = (lines(METRICS)?, lines(TIMINGS)?);
        if let Err(error) = hold(&metrics, &name) {
            // The files may be those of the other program.
            new.keep();
            return Err(error);
        }
        let events = Path::new(TENSORBOARD).join(tensorboard::NAME);
        new.add(&path.join(events));
        NEW.iter().for_each(|name| new.add(&path.join(name)));
        sweep(path);
        file::write(&path.join(CONFIG), config.to_toml()?.as_bytes())?;
        file::write(&path.join(SOURCE), format!("{source}\n").as_bytes())?;
        let events = EventFile::open(&path.join(TENSORBOARD), epoch)?;
        let (path, step_text) = (path.to_path_buf(), NextStep::to_string as StepText);
        Ok(Folder { new, path, metrics, timings, events, spent: 0.0, paged: None, step_text })
    }

    /// Sets the wording of the next step in the report; the default is a sentence in English.
    pub fn word_steps(&mut self, text: StepText) {
        self.step_text = text;
    }

    /// Keeps the files of a new run, even if it fails.
    pub fn keep(&mut self) {
        self.new.keep();
    }

    /// Returns the path of a file in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the seconds spent on the run, including the time before a resume.
    pub fn spent(&self) -> f64 {
        self.spent
    }

    /// Appends a line to `metrics.jsonl`, and scalars for TensorBoard. The line is synced to disk, as a
    /// checkpoint may follow.
    pub fn record(&mut self, record: &(impl Serialize + Scalars)) -> Result<()> {
        self.keep();
        self.events.record(record)?;
        let path = self.path.join(METRICS);
        append(&mut self.metrics, &path, record)?;
        self.metrics.sync_data().map_err(Error::io(path))
    }

    /// Appends to `timings.jsonl` the time since `since` in which `device` reached `position`, and resets
    /// `since`. Writes the report at the end of an epoch, and at intervals within one.
    pub fn mark(&mut self, position: Position, since: &mut Instant, device: &str) -> Result<()> {
        let seconds = std::mem::replace(since, Instant::now()).elapsed().as_secs_f64();
        self.time(position.epoch, position.step, seconds, device)?;
        let late = self.paged.is_none_or(|paged| paged.elapsed() >= PAGE);
        if position.step == 0 || late { self.page() } else { Ok(()) }
    }

    /// Removes the chosen genotype of a search that ended by its time budget and is resumed with a larger one.
    pub fn take_back(&self) -> Result<()> {
        Ok(file::remove(&self.path.join(GENOTYPE))?)
    }

    /// Writes the report of the run.
    pub fn page(&mut self) -> Result<()> {
        self.paged = Some(Instant::now());
        report::write(&self.path, self.step_text)
    }

    /// Appends a timing of `seconds` that ends at a step of an epoch.
    fn time(&mut self, epoch: usize, step: usize, seconds: f64, device: &str) -> Result<()> {
        self.keep();
        self.spent += seconds;
        let timing = Timing { epoch, step, seconds, peak_mib: peak_mib(), device: Some(device.into()) };
        append(&mut self.timings, &self.path.join(TIMINGS), &timing)
    }
}

/// Locks a file against other programs. A program that was just killed may hold the lock a moment longer, so
/// the lock is retried.
fn hold(file: &File, path: &Path) -> Result<()> {
    let begun = Instant::now();
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        if begun.elapsed() > PATIENCE {
            let problem = format!(
                "{} is in use by another program. help: wait for it, or choose another run folder",
                path.display()
            );
            return Err(Error::Data { problem });
        }
        std::thread::sleep(PATIENCE / 50);
    }
    // Some network file systems have no locks; there the user has to prevent concurrent use.
    Ok(())
}

fn append(file: &mut File, path: &Path, record: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(record)
        .map_err(|e| Error::Config { place: path.display().to_string(), problem: e.to_string() })?;
    file.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(path))
}

/// Truncates a file before the first line that `keep` rejects or that has no end, and seeks to its end.
fn cut(file: &mut File, path: &Path, mut keep: impl FnMut(&[u8]) -> Result<bool>) -> Result<()> {
    let mut reader = BufReader::new(&*file);
    let (mut line, mut whole) = (Vec::new(), 0);
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(Error::io(path))?;
        if line.last() != Some(&b'\n') || !keep(&line)? {
            break;
        }
        whole += line.len() as u64;
    }
    file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole))).map_err(Error::io(path))?;
    Ok(())
}

/// Removes temporary files of a killed writer. A file that cannot be removed only wastes space.
fn sweep(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().ends_with(".tmp") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::resolve("smoke", None, &[]).unwrap()
    }

    #[derive(Serialize)]
    struct MetricsLine {
        epoch: usize,
    }

    impl Scalars for MetricsLine {
        fn epoch(&self) -> usize {
            self.epoch
        }

        fn scalars(&self) -> Vec<(std::borrow::Cow<'static, str>, f64)> {
            Vec::new()
        }
    }

    fn line(epoch: usize) -> MetricsLine {
        MetricsLine { epoch }
    }

    #[test]
    fn lines_before_the_checkpoint_survive_truncation() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::create(place.path(), &config(), &Source::Digits, "x").unwrap();
        (0..3).for_each(|epoch| folder.record(&line(epoch)).unwrap());
        drop(folder);
        let path = place.path().join(METRICS);
        let whole = fs::read(&path).unwrap();
        let each = whole.len() / 3;
        for length in 0..=whole.len() {
            for epoch in 0..=length / each {
                fs::write(&path, &whole[..length]).unwrap();
                let mut folder = Folder::reopen(place.path(), &config(), &Source::Digits, epoch).unwrap();
                (epoch..3).for_each(|epoch| folder.record(&line(epoch)).unwrap());
                assert!(fs::read(&path).unwrap() == whole, "{length} bytes, epoch {epoch}");
            }
        }
        fs::write(&path, &whole[..each + 3]).unwrap();
        let message = Folder::reopen(place.path(), &config(), &Source::Digits, 2).unwrap_err().to_string();
        assert!(message.contains("it has 1 records, expected 2 as in the checkpoint"), "{message}");
        fs::write(&path, [&whole[each..2 * each], &whole[..each]].concat()).unwrap();
        let message = Folder::reopen(place.path(), &config(), &Source::Digits, 2).unwrap_err().to_string();
        assert!(message.contains("line 1 does not belong to epoch 0"), "{message}");
    }

    #[test]
    fn time_adds_up_and_a_killed_writer_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::create(place.path(), &config(), &Source::Digits, "x").unwrap();
        folder.time(0, 4, 1.5, "cpu").unwrap();
        folder.time(0, 8, 2.0, "cpu").unwrap();
        drop(folder);
        let path = place.path().join(TIMINGS);
        let torn = fs::read(&path).unwrap();
        fs::write(&path, &torn[..torn.len() - 2]).unwrap();
        fs::write(place.path().join("checkpoint.safetensors.7.tmp"), "half").unwrap();
        let mut folder = Folder::reopen(place.path(), &config(), &Source::Digits, 0).unwrap();
        folder.time(0, 8, 1.0, "cpu").unwrap();
        assert_eq!(folder.spent(), 2.5);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert!(!place.path().join("checkpoint.safetensors.7.tmp").exists());
    }

    #[test]
    fn the_report_is_written_after_an_epoch_and_at_intervals_within_one() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::create(place.path(), &config(), &Source::Digits, "x").unwrap();
        let page = place.path().join(report::REPORT);
        let mut is_written_at = |step: usize, paged: Duration| {
            file::remove(&page).unwrap();
            folder.paged = Some(Instant::now().checked_sub(paged).unwrap());
            folder.mark(Position { step, ..Position::start(1) }, &mut Instant::now(), "cpu").unwrap();
            page.exists()
        };
        assert!(is_written_at(0, Duration::ZERO));
        assert!(!is_written_at(7, PAGE / 2));
        assert!(is_written_at(7, PAGE));
    }

    #[test]
    fn a_run_without_a_checkpoint_leaves_the_folder_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new/run");
        let mut folder = Folder::create(&path, &config(), &Source::Digits, "x").unwrap();
        folder.page().unwrap();
        let message = Folder::create(&path, &config(), &Source::Digits, "x").unwrap_err().to_string();
        assert!(message.contains("in use by another program") && path.join(CONFIG).exists(), "{message}");
        drop(folder);
        assert!(!place.path().join("new").exists());
        // Files of a killed run and of the user are not removed.
        fs::create_dir_all(&path).unwrap();
        ["config.toml", "notes.txt"].iter().for_each(|name| fs::write(path.join(name), "").unwrap());
        drop(Folder::create(&path, &config(), &Source::Digits, "x").unwrap());
        let mut names: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["config.toml", "notes.txt"]);
        let mut folder = Folder::create(&path, &config(), &Source::Digits, "x").unwrap();
        folder.record(&line(0)).unwrap();
        drop(folder);
        assert!(path.join(METRICS).exists() && path.join(TENSORBOARD).exists());
    }

    #[test]
    fn two_programs_do_not_write_one_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::create(place.path(), &config(), &Source::Digits, "x").unwrap();
        let message = Folder::reopen(place.path(), &config(), &Source::Digits, 0).unwrap_err().to_string();
        assert!(message.contains("in use by another program"), "{message}");
        drop(folder);
        Folder::reopen(place.path(), &config(), &Source::Digits, 0).unwrap();
    }
}
