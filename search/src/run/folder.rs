//! The folder of a run: its configuration, and the lines that it grows by.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use milenas_models::file;
use milenas_models::images::Source;
use milenas_models::memory::peak_mib;
use serde::{Deserialize, Serialize};

use super::{CONFIG, GENOTYPE, SOURCE};
use crate::checkpoint::Position;
use crate::config::Config;
use crate::report;
use crate::tensorboard::{EventFile, Scalars};
use crate::{Error, Result};

/// The name of the lines that a run grows by, one an epoch.
pub const METRICS: &str = "metrics.jsonl";
/// The name of the lines of how long it took.
pub const TIMINGS: &str = "timings.jsonl";
const TENSORBOARD: &str = "tensorboard";
/// The least time between two pages while an epoch lasts.
const PAGE: Duration = Duration::from_secs(30);
/// How long another program's hold on a folder is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A line of `timings.jsonl`: how long it took to come here from the line before, or from the start of the program.
/// Work that was lost with a kill is not in it, work that was done again is in it twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timing {
    epoch: usize,
    step: usize,
    /// How long it took.
    pub seconds: f64,
    /// The most memory that the program has held, where the system tells.
    pub peak_mib: Option<f64>,
    /// What `--device` was, but for the number of a GPU.
    pub device: Option<String>,
}

impl Timing {
    /// The epoch that the time was spent in.
    pub fn spent_in(&self) -> usize {
        match self.step {
            0 => self.epoch.saturating_sub(1),
            _ => self.epoch,
        }
    }
}

/// The folder of a run, held against other programs; its files appear whole or not at all, those of lines grow.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    metrics: File,
    timings: File,
    events: EventFile,
    spent: f64,
    /// When the page was written last.
    paged: Option<Instant>,
}

impl Folder {
    /// Makes the folder and writes the resolved configuration into it, and the source of its images.
    ///
    /// # Errors
    /// A folder that already holds a finished run, or that another program writes.
    pub fn create(path: &Path, config: &Config, source: &Source, result: &str) -> Result<Self> {
        if path.join(result).exists() {
            let problem = format!(
                "{} already holds {result}. Help: choose another --out, or remove the folder",
                path.display()
            );
            return Err(Error::Data { problem });
        }
        fs::create_dir_all(path).map_err(Error::io(path))?;
        let folder = Self::open(path, config, source, 0)?;
        for (file, name) in [(&folder.metrics, METRICS), (&folder.timings, TIMINGS)] {
            file.set_len(0).map_err(Error::io(path.join(name)))?;
        }
        Ok(folder)
    }

    /// Goes on in the folder before `epoch`: later lines are dropped, and those that a kill has torn.
    ///
    /// # Errors
    /// Fewer lines than epochs, a line that is no record of its epoch, a folder that another program writes.
    pub fn reopen(path: &Path, config: &Config, source: &Source, epoch: usize) -> Result<Self> {
        let mut folder = Self::open(path, config, source, epoch)?;
        let name = path.join(METRICS);
        let other = |problem: String| {
            let problem =
                format!("{problem}. Help: restore it as the run left it, or begin again in another --out");
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
                return Err(other(format!("line {} is not of epoch {lines}", lines + 1)));
            }
            lines += 1;
            Ok(true)
        })?;
        if lines < epoch {
            return Err(other(format!("it has {lines} records, the checkpoint is after {epoch} epochs")));
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

    fn open(path: &Path, config: &Config, source: &Source, epoch: usize) -> Result<Self> {
        let lines = |name| {
            let path = path.join(name);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).map_err(Error::io(&path)).map(|file| (file, path))
        };
        let ((metrics, name), (timings, _)) = (lines(METRICS)?, lines(TIMINGS)?);
        hold(&metrics, &name)?;
        sweep(path);
        file::write(&path.join(CONFIG), config.to_toml()?.as_bytes())?;
        file::write(&path.join(SOURCE), format!("{source}\n").as_bytes())?;
        let events = EventFile::open(&path.join(TENSORBOARD), epoch)?;
        Ok(Folder { path: path.to_path_buf(), metrics, timings, events, spent: 0.0, paged: None })
    }

    /// The path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Seconds that the run has taken, those before a resume with them.
    pub fn spent(&self) -> f64 {
        self.spent
    }

    /// Appends a line to `metrics.jsonl`, which is on the disk before a checkpoint may follow, and scalars for TensorBoard.
    pub fn record(&mut self, record: &(impl Serialize + Scalars)) -> Result<()> {
        self.events.record(record)?;
        let path = self.path.join(METRICS);
        append(&mut self.metrics, &path, record)?;
        self.metrics.sync_data().map_err(Error::io(path))
    }

    /// Appends to `timings.jsonl` how long it took `device` to come to a position since `since`, which starts anew; writes the run's page
    /// where an epoch has ended, and now and then within one.
    pub fn mark(&mut self, position: Position, since: &mut Instant, device: &str) -> Result<()> {
        let seconds = std::mem::replace(since, Instant::now()).elapsed().as_secs_f64();
        self.time(position.epoch, position.step, seconds, device)?;
        let late = self.paged.is_none_or(|paged| paged.elapsed() >= PAGE);
        if position.step == 0 || late { self.page() } else { Ok(()) }
    }

    /// Takes back what a search chose when its time was over: it was given more.
    pub fn take_back(&self) -> Result<()> {
        Ok(file::remove(&self.path.join(GENOTYPE))?)
    }

    /// Writes the run's page.
    pub fn page(&mut self) -> Result<()> {
        self.paged = Some(Instant::now());
        report::write(&self.path)
    }

    /// `seconds` to come to a step of an epoch.
    fn time(&mut self, epoch: usize, step: usize, seconds: f64, device: &str) -> Result<()> {
        self.spent += seconds;
        let timing = Timing { epoch, step, seconds, peak_mib: peak_mib(), device: Some(device.into()) };
        append(&mut self.timings, &self.path.join(TIMINGS), &timing)
    }
}

/// Holds a file against other programs. One that was killed, or that another thread starts, may have it for a moment longer.
fn hold(file: &File, path: &Path) -> Result<()> {
    let begun = Instant::now();
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        if begun.elapsed() > PATIENCE {
            let problem = format!(
                "another program writes {}. Help: wait for it, or choose another --out",
                path.display()
            );
            return Err(Error::Data { problem });
        }
        std::thread::sleep(PATIENCE / 50);
    }
    // Some network file systems have no locks; then the user must know.
    Ok(())
}

fn append(file: &mut File, path: &Path, record: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(record)
        .map_err(|e| Error::Config { place: path.display().to_string(), problem: e.to_string() })?;
    file.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(path))
}

/// Cuts a file off where `keep` first refuses a line, or before a line that has no end, and stands there.
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

/// Removes the temporary files of a writer that was killed. One that stays costs its room, no more.
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

        fn scalars(&self) -> Vec<(&'static str, f64)> {
            Vec::new()
        }
    }

    fn line(epoch: usize) -> MetricsLine {
        MetricsLine { epoch }
    }

    #[test]
    fn torn_anywhere_the_lines_before_the_checkpoint_stay() {
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
        assert!(message.contains("it has 1 records, the checkpoint is after 2 epochs"), "{message}");
        fs::write(&path, [&whole[each..2 * each], &whole[..each]].concat()).unwrap();
        let message = Folder::reopen(place.path(), &config(), &Source::Digits, 2).unwrap_err().to_string();
        assert!(message.contains("line 1 is not of epoch 0"), "{message}");
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
    fn the_page_is_written_after_an_epoch_and_now_and_then_within_one() {
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
    fn two_programs_do_not_write_one_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::create(place.path(), &config(), &Source::Digits, "x").unwrap();
        let message = Folder::reopen(place.path(), &config(), &Source::Digits, 0).unwrap_err().to_string();
        assert!(message.contains("another program writes"), "{message}");
        drop(folder);
        Folder::reopen(place.path(), &config(), &Source::Digits, 0).unwrap();
    }
}
