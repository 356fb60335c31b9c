//! What a run has left in its folder so far, read for a report.

use std::path::{Path, PathBuf};

use milenas_models::metrics::Scores;
use milenas_models::{Cost, Genotype, file};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::run::{
    CONFIG, COST, GENOTYPE, HISTORY, Inherited, METRICS, SCORES, SOURCE, START, TABLE, TIMINGS, Timing,
    WEIGHTS, read_evaluations,
};
use crate::strategy::black_box::Evaluated;
use crate::supernet::Mixture;
use crate::{Error, Result};

/// The largest file that is read, in bytes: ten thousand epochs of a search.
const MAX_BYTES: u64 = 64 << 20;

/// A line of `metrics.jsonl`, of a search or of a training.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct EpochRow {
    pub epoch: usize,
    pub lr: f64,
    pub train_loss: f64,
    pub train_accuracy: f64,
    pub images: Option<u64>,
    pub valid_accuracy: Option<f64>,
    pub valid_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub entropy: Option<[f64; 2]>,
    pub convolutions: Option<[usize; 2]>,
    pub params: Option<u64>,
    pub macs: Option<u64>,
    pub skips: Option<usize>,
    pub mixture: Option<Mixture>,
    pub genotype: Option<Genotype>,
}

impl EpochRow {
    /// On images that did not train the weights: the validation half of a search, the test images of a training.
    pub fn accuracy(&self) -> f64 {
        self.test_accuracy.or(self.valid_accuracy).unwrap_or(f64::NAN)
    }

    /// Cross-entropy on the same images.
    pub fn loss(&self) -> Option<f64> {
        self.test_loss.or(self.valid_loss)
    }
}

/// A row of `genotypes/table.json`.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct SizeRow {
    pub n: usize,
    pub r: usize,
    pub epoch: usize,
    pub valid_accuracy: f64,
    pub params: u64,
    pub macs: u64,
    pub file: String,
    pub genotype: Option<Genotype>,
}

/// A run as far as it is.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct RunSummary {
    pub path: PathBuf,
    pub config: Config,
    pub epochs: Vec<EpochRow>,
    pub seconds: f64,
    /// The time of the median epoch.
    pub epoch_seconds: Option<f64>,
    /// The most memory that it held, in MiB.
    pub peak_mib: Option<f64>,
    /// What computed it, where that was not the CPU.
    pub device: Option<String>,
    /// Of the network that is trained.
    pub cost: Option<Cost>,
    /// Architectures that a search has judged one by one, and their values; `None` for other runs.
    pub judged: Option<Vec<Evaluated>>,
    /// Where its images are from, as it was typed; runs of older versions do not tell.
    pub source: Option<String>,
    /// What a search chose, or what is trained.
    pub genotype: Option<Genotype>,
    /// The search that a training has its weights from.
    pub inherited: Option<Inherited>,
    pub sizes: Vec<SizeRow>,
    pub scores: Option<Scores>,
}

fn text(path: &Path) -> Result<Option<String>> {
    match path.exists() {
        true => Ok(Some(String::from_utf8_lossy(&file::read(path, MAX_BYTES)?).into_owned())),
        false => Ok(None),
    }
}

fn broken(path: &Path, problem: impl ToString) -> Error {
    Error::Config { place: path.display().to_string(), problem: problem.to_string() }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let found = text(path)?.map(|text| serde_json::from_str(&text).map_err(|e| broken(path, e)));
    found.transpose()
}

/// The time of the median of `epochs` that are done. One that a kill interrupted counts what was done again twice.
fn median_epoch(timings: &[Timing], epochs: usize) -> Option<f64> {
    let mut each = vec![0.0; epochs];
    for timing in timings {
        if let Some(sum) = each.get_mut(timing.spent_in()) {
            *sum += timing.seconds;
        }
    }
    each.sort_by(f64::total_cmp);
    each.get(epochs / 2).copied()
}

/// How far below a folder runs are looked for: a folder of all runs has those of a `compare` three below.
const DEEP: usize = 3;

/// The folders of the runs that paths stand for, each once: a path's own, or else those in the folders in it. Of one folder they are in the
/// order of the numbers that their names end with.
pub fn runs(paths: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for path in paths {
        let mut found = below(path.as_ref(), DEEP);
        if found.is_empty() {
            // For the error of a path without any.
            found.push(path.as_ref().to_path_buf());
        }
        found.retain(|run| !all.contains(run));
        all.extend(found);
    }
    all
}

fn below(path: &Path, deep: usize) -> Vec<PathBuf> {
    match deep {
        _ if path.join(CONFIG).exists() => vec![path.to_path_buf()],
        0 => Vec::new(),
        _ => within(path).iter().flat_map(|folder| below(folder, deep - 1)).collect(),
    }
}

/// What is in a folder; nothing where there is none.
fn within(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_by_cached_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let word = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        (name[..word].to_string(), name[word..].parse::<u64>().ok(), name)
    });
    paths
}

impl RunSummary {
    /// Of the run in a folder, running or done.
    ///
    /// # Errors
    /// A folder without a run, or with files that are none of it.
    pub fn read(path: &Path) -> Result<RunSummary> {
        let place = path.join(CONFIG);
        let help = "there is no run here, nor in the folders in it. Help: give the --out of a search or of trainings";
        let config = text(&place)?.ok_or_else(|| broken(path, help))?;
        let config = toml::from_str(&config).map_err(|e| broken(&place, e.message()))?;
        let place = path.join(METRICS);
        let mut epochs = Vec::new();
        // The last line may be half-written.
        for line in
            text(&place)?.unwrap_or_default().split_inclusive('\n').filter(|line| line.ends_with('\n'))
        {
            let epoch = serde_json::from_str(line).map_err(|e| {
                let line = epochs.len() + 1;
                broken(
                    &place,
                    format!("line {line} is no epoch's ({e}). Help: restore it as the run left it"),
                )
            });
            epochs.push(epoch?);
        }
        let timings = text(&path.join(TIMINGS))?.unwrap_or_default();
        let timings: Vec<Timing> =
            timings.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(RunSummary {
            path: path.to_path_buf(),
            config,
            seconds: timings.iter().map(|timing| timing.seconds).sum(),
            epoch_seconds: median_epoch(&timings, epochs.len()),
            peak_mib: timings.iter().filter_map(|timing| timing.peak_mib).reduce(f64::max),
            device: timings
                .into_iter()
                .next_back()
                .and_then(|last| last.device)
                .filter(|device| device != "cpu"),
            cost: json(&path.join(COST))?,
            judged: path.join(HISTORY).exists().then(|| read_evaluations(&path.join(HISTORY))).transpose()?,
            source: text(&path.join(SOURCE))?.map(|text| text.trim_end_matches('\n').to_string()),
            genotype: json(&path.join(GENOTYPE))?,
            inherited: json(&path.join(START))?,
            sizes: json(&path.join(TABLE))?.unwrap_or_default(),
            scores: json(&path.join(SCORES))?,
            epochs,
        })
    }

    /// Whether it is the run of a search.
    pub fn is_search(&self) -> bool {
        match self.epochs.first() {
            _ if self.judged.is_some() => true,
            Some(epoch) => epoch.valid_accuracy.is_some(),
            // A training has its cost from the beginning.
            None => self.cost.is_none(),
        }
    }

    /// Epochs that it is to have.
    pub fn planned(&self) -> usize {
        match self.is_search() {
            true => self.config.search.epochs,
            false => self.config.train.epochs,
        }
    }

    /// Of [`cells`](Self::cells): what is trained, what a search chose, or what its last epoch had.
    pub fn cost(&self) -> Option<Cost> {
        let shown = self.cells()?;
        let size = || self.sizes.iter().find(|size| size.genotype.as_ref() == Some(shown));
        let epoch = || self.epochs.iter().rfind(|epoch| epoch.genotype.as_ref() == Some(shown));
        self.cost
            .or_else(|| size().map(|&SizeRow { params, macs, .. }| Cost { params, macs }))
            .or_else(|| epoch().and_then(|e| Some(Cost { params: e.params?, macs: e.macs? })))
    }

    /// Whether it has come to its end.
    pub fn is_finished(&self) -> bool {
        match self.is_search() {
            true => self.genotype.is_some(),
            false => self.path.join(WEIGHTS).exists(),
        }
    }

    /// What is found or trained: what was chosen, or what the last epoch had.
    pub fn cells(&self) -> Option<&Genotype> {
        self.genotype.as_ref().or_else(|| self.epochs.last()?.genotype.as_ref())
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}
