//! Reader of a run folder for the report.

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
use crate::supernet::Rows;
use crate::{Error, Result};

/// Largest file that is read, in bytes: ten thousand epochs of a search.
const MAX_BYTES: u64 = 64 << 20;

/// Line of `metrics.jsonl` of a search or a training. Fields that one of them lacks are `None`.
#[derive(Clone, Debug, Deserialize)]
pub struct EpochRow {
    /// Epoch, counted from 0.
    pub epoch: usize,
    /// Learning rate of the weights.
    pub lr: f64,
    /// Mean training loss of the epoch.
    pub train_loss: f64,
    /// Training accuracy of the epoch, as a fraction.
    pub train_accuracy: f64,
    /// Number of training images in the epoch.
    pub images: Option<u64>,
    /// Accuracy on the validation split of a search.
    pub valid_accuracy: Option<f64>,
    /// Cross-entropy on the validation split of a search.
    pub valid_loss: Option<f64>,
    /// Accuracy on the test images of a training.
    pub test_accuracy: Option<f64>,
    /// Cross-entropy on the test images of a training.
    pub test_loss: Option<f64>,
    /// Mean entropy of the mixtures, for each group of choices.
    pub entropy: Option<Vec<f64>>,
    /// Number of convolutions in the derived normal and reduction cells.
    pub convolutions: Option<[usize; 2]>,
    /// Parameters of the derived network.
    pub params: Option<u64>,
    /// Multiply-accumulates per image of the derived network.
    pub macs: Option<u64>,
    /// Number of skip connections in the derived normal cell.
    pub skips: Option<usize>,
    /// Weights of the candidates, for each group of choices a row per choice. Files of version 0.1 have rows of eight.
    pub mixture: Option<Vec<Rows>>,
    /// Derived architecture.
    pub genotype: Option<Genotype>,
}

impl EpochRow {
    /// Returns the accuracy on images that did not train the weights: the validation split of a search, the
    /// test images of a training.
    pub fn accuracy(&self) -> f64 {
        self.test_accuracy.or(self.valid_accuracy).unwrap_or(f64::NAN)
    }

    /// Returns the cross-entropy on the same images.
    pub fn loss(&self) -> Option<f64> {
        self.test_loss.or(self.valid_loss)
    }
}

/// Row of `genotypes/table.json`: the best epoch of a size.
#[derive(Clone, Debug, Deserialize)]
pub struct SizeRow {
    /// Convolutions in the normal cell.
    pub n: usize,
    /// Convolutions in the reduction cell.
    pub r: usize,
    /// Epoch, counted from 0.
    pub epoch: usize,
    /// Accuracy of the supernet on the validation split.
    pub valid_accuracy: f64,
    /// Parameters of the network for evaluation.
    pub params: u64,
    /// Multiply-accumulates per image of that network.
    pub macs: u64,
    /// File name of the genotype in `genotypes/`.
    pub file: String,
    /// Derived architecture.
    pub genotype: Option<Genotype>,
}

/// Content of a run folder, of a finished or an unfinished run.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Path of the run folder.
    pub path: PathBuf,
    /// Configuration of the run.
    pub config: Config,
    /// Records of the finished epochs.
    pub epochs: Vec<EpochRow>,
    /// Wall-clock seconds of the run.
    pub seconds: f64,
    /// Wall-clock seconds of the median epoch.
    pub epoch_seconds: Option<f64>,
    /// Peak memory in MiB.
    pub peak_mib: Option<f64>,
    /// Kind of device; `None` for the CPU.
    pub device: Option<String>,
    /// Cost of the trained network.
    pub cost: Option<Cost>,
    /// Evaluations of a black-box search; `None` for other runs.
    pub evaluated: Option<Vec<Evaluated>>,
    /// Image source, as given by the user; `None` for runs of older versions.
    pub source: Option<String>,
    /// Architecture that a search chose, or that is trained.
    pub genotype: Option<Genotype>,
    /// Origin of the inherited weights of a training.
    pub inherited: Option<Inherited>,
    /// Best epoch of every size.
    pub sizes: Vec<SizeRow>,
    /// Scores on the test images.
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

/// Returns the seconds of the median of the finished `epochs`. In an interrupted epoch, repeated work counts
/// twice.
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

/// Depth to which folders are searched for runs. A folder of all runs contains those of a `compare` three levels
/// below.
const DEEP: usize = 3;

/// Returns the run folders below `paths`, each once. A path is a run folder, or a folder that contains run
/// folders. Runs of one folder are ordered by the numbers at the end of their names.
pub fn runs(paths: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for path in paths {
        let mut found = below(path.as_ref(), DEEP);
        if found.is_empty() {
            // A path without a run is kept, so that reading it reports the error.
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

/// Returns the paths in a folder in order; empty if the folder does not exist.
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
    /// Reads the run in a folder. The run may be unfinished.
    ///
    /// # Errors
    /// Fails for a folder without a run, and for invalid files.
    pub fn read(path: &Path) -> Result<RunSummary> {
        let place = path.join(CONFIG);
        let help = "no run in this folder or its subfolders. help: give the folder of a search or a training";
        let config = text(&place)?.ok_or_else(|| broken(path, help))?;
        let config = Config::from_toml(&config, &place.display().to_string())?;
        let place = path.join(METRICS);
        let mut epochs = Vec::new();
        // The last line may be incomplete.
        for line in
            text(&place)?.unwrap_or_default().split_inclusive('\n').filter(|line| line.ends_with('\n'))
        {
            let epoch = serde_json::from_str(line).map_err(|e| {
                let line = epochs.len() + 1;
                broken(
                    &place,
                    format!("line {line} is not an epoch record ({e}). help: restore the file from a copy"),
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
            evaluated: path
                .join(HISTORY)
                .exists()
                .then(|| read_evaluations(&path.join(HISTORY)))
                .transpose()?,
            source: text(&path.join(SOURCE))?.map(|text| text.trim_end_matches('\n').to_string()),
            genotype: json(&path.join(GENOTYPE))?,
            inherited: json(&path.join(START))?,
            sizes: json(&path.join(TABLE))?.unwrap_or_default(),
            scores: json(&path.join(SCORES))?,
            epochs,
        })
    }

    /// Returns whether the run is a search.
    pub fn is_search(&self) -> bool {
        match self.epochs.first() {
            _ if self.evaluated.is_some() => true,
            Some(epoch) => epoch.valid_accuracy.is_some(),
            // A training writes its cost at the beginning.
            None => self.cost.is_none(),
        }
    }

    /// Returns the configured number of epochs.
    pub fn planned(&self) -> usize {
        match self.is_search() {
            true => self.config.search.all_epochs(),
            false => self.config.train.epochs,
        }
    }

    /// Returns the cost of [`cells`](Self::cells).
    pub fn cost(&self) -> Option<Cost> {
        let shown = self.cells()?;
        let size = || self.sizes.iter().find(|size| size.genotype.as_ref() == Some(shown));
        let epoch = || self.epochs.iter().rfind(|epoch| epoch.genotype.as_ref() == Some(shown));
        self.cost
            .or_else(|| size().map(|&SizeRow { params, macs, .. }| Cost { params, macs }))
            .or_else(|| epoch().and_then(|e| Some(Cost { params: e.params?, macs: e.macs? })))
    }

    /// Returns whether the run is finished.
    pub fn is_finished(&self) -> bool {
        match self.is_search() {
            true => self.genotype.is_some(),
            false => self.path.join(WEIGHTS).exists(),
        }
    }

    /// Returns the architecture that was chosen or is trained, else that of the last epoch.
    pub fn cells(&self) -> Option<&Genotype> {
        self.genotype.as_ref().or_else(|| self.epochs.last()?.genotype.as_ref())
    }

    /// Returns the path of the folder as text.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}
