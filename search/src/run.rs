//! Runs of searches and trainings: reading data, running, evaluating, and writing the run folder.

mod budget;
mod evaluation;
mod evaluation_log;
mod folder;
mod genotypes;
mod inherit;
mod new_files;
mod population;
mod population_identity;
mod search;
mod spread;
mod train;

use std::collections::HashSet;

use milenas_models::NetworkConfig;
use milenas_models::images::{Dataset, Source};
use milenas_models::input::{InputContract, Limits};

use crate::config::{Config, TrainConfig};
use crate::data::{ImageSet, Whole};
use crate::{Error, Result};

pub use evaluation::TestEvaluation;
pub use evaluation_log::read_evaluations;
pub use folder::{Folder, METRICS, TIMINGS, Timing};
pub use genotypes::GenotypeRow;
pub use inherit::TrainedSupernet;
pub use new_files::NewFiles;
pub use population::{DRAWS, HISTORY, PopulationRun, open_population, run_population};
pub use search::{SearchResult, SearchRun, open_search, run_search};
pub use spread::{Difference, SIGNIFICANT, Spread};
pub use train::{Inherited, InitialWeights, TrainRun, Trained, open_train, run_train};

/// Side, in pixels, to which images are resized by default if they are larger than 64 pixels or differ in size.
const DEFAULT_SIDE: usize = 32;

/// File name of the weights in a run folder.
pub const WEIGHTS: &str = "weights.safetensors";
/// File name of the genotype in a run folder.
pub const GENOTYPE: &str = "genotype.json";
/// File name of the table of the best genotypes in the folder of a search.
pub const TABLE: &str = "genotypes/table.json";
/// File name of the checkpoint from which a run resumes.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// File name of the scores of a trained network on the test images.
pub const SCORES: &str = "scores.json";
/// File name of the configuration shared by the trainings of several seeds; its seed is the first of them.
pub const SEEDS: &str = "seeds.toml";
/// File name of the resolved configuration.
pub const CONFIG: &str = "config.toml";
/// File name of the cost of a trained network: its parameters and multiply-accumulates per image.
pub const COST: &str = "cost.json";
/// File name of the origin of inherited weights.
pub const START: &str = "start.json";
/// File name of the image source, as given by the user.
pub const SOURCE: &str = "source.txt";

/// Images of a source in memory, at the network's input size.
#[derive(Debug)]
pub struct Data {
    /// Source of the images.
    pub source: Source,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Training images.
    pub train: ImageSet,
    /// Test images.
    pub test: ImageSet,
    /// Notes for the user: splits that were made, images that could not be read.
    pub notes: Vec<String>,
    /// Whether all images could be read.
    pub all_read: bool,
    /// Fingerprint of the data set, from names and sizes.
    pub fingerprint: String,
    /// Whether the test images were held out of a source without a test part.
    pub held_out: bool,
}

impl Data {
    /// Reads the images of a source under a suitable input contract.
    pub fn load(source: &Source, config: &Config) -> Result<Self> {
        Self::open(source, config, None)
    }

    /// Reads the images of a source for the training of a derived network. With `data.resize`, resized crops
    /// are taken from images larger than the network's input, which are kept too.
    pub fn load_to_train(source: &Source, config: &Config) -> Result<Self> {
        let larger = config.train.resized_crop > 0.0 && config.data.resize > 0;
        Self::open(source, config, larger.then_some(config.data.resize))
    }

    /// Reads the images of a source. With `shorter`, whole training images of this shorter side are kept too.
    fn open(source: &Source, config: &Config, shorter: Option<usize>) -> Result<Self> {
        let mut dataset = source.open(config.data.split)?;
        let limits = Limits::default();
        let contract = match config.data.size {
            0 => match dataset.suggest_contract(None, &limits) {
                Err(milenas_models::Error::Value { found, .. }) => {
                    dataset.notes.push(format!(
                        "the size of the images is {found}; the network uses {DEFAULT_SIDE}x{DEFAULT_SIDE} pixels of each. \
                         help: set data.size=N for another size"
                    ));
                    dataset.suggest_contract(Some([DEFAULT_SIDE; 2]), &limits)?
                }
                contract => contract?,
            },
            side => dataset.suggest_contract(Some([side, config.data.resize.max(side)]), &limits)?,
        };
        Self::under(source, dataset, contract, &limits, shorter)
    }

    /// Reads the images of a data set under a given contract.
    ///
    /// # Errors
    /// Fails if no training image of a class can be read: the trained network would never predict the class.
    fn under(
        source: &Source,
        dataset: Dataset,
        contract: InputContract,
        limits: &Limits,
        shorter: Option<usize>,
    ) -> Result<Self> {
        budget::check_images(&dataset, &contract, limits, shorter)?;
        let (mut notes, mut all_read) = (dataset.all_notes(), true);
        let mut read = |samples: &[_], part: &str, shorter: Option<usize>| {
            let more = |image: &_| shorter.map(|side| Whole::new(image, &contract, side)).transpose();
            let (images, wholes, bad) = Dataset::load_with(samples, &contract, limits, &|_| {}, &more);
            all_read &= bad.is_empty();
            notes.extend(
                bad.into_iter().map(|(_, error)| format!("skipped one of the {part} images: {error}")),
            );
            ImageSet { images, wholes: wholes.into_iter().flatten().collect(), contract: contract.clone() }
        };
        let train = read(&dataset.train, "training", shorter);
        let test = read(&dataset.test, "test", None);
        if train.is_empty() || test.is_empty() {
            let first = notes.last().cloned().unwrap_or_default();
            let problem =
                format!("{} training and {} test images can be read; {first}", train.len(), test.len());
            return Err(Error::Data { problem });
        }
        let seen: HashSet<u32> = train.images.labels.iter().copied().collect();
        let unseen = (0..).zip(&dataset.classes).find(|(class, _)| !seen.contains(class));
        if let Some((class, name)) = unseen {
            let of: Vec<String> =
                dataset.train.iter().filter(|s| s.class() == class).map(|s| s.name()).collect();
            let fault = notes.iter().find(|note| of.iter().any(|name| note.contains(name))).cloned();
            let problem = format!(
                "none of the {} training images of the class {name} can be read: {}. help: replace its images, or remove its folders",
                of.len(),
                fault.unwrap_or_default()
            );
            return Err(Error::Data { problem });
        }
        let mut counts = vec![0; dataset.classes.len()];
        train.images.labels.iter().for_each(|&class| counts[class as usize] += 1);
        notes.extend(budget::imbalance(&dataset.classes, &counts));
        Ok(Data {
            source: source.clone(),
            classes: dataset.classes,
            train,
            test,
            notes,
            all_read,
            fingerprint: dataset.fingerprint,
            held_out: dataset.held_out.is_some(),
        })
    }

    /// Returns the configuration of the network that training by `train` makes of a genotype.
    pub fn derived(&self, train: &TrainConfig) -> NetworkConfig {
        NetworkConfig { skeleton: train.skeleton, ..self.network(train.channels, train.layers) }
    }

    /// Returns the configuration of a network for these images and classes, with DARTS' stem for CIFAR.
    pub fn network(&self, channels: usize, layers: usize) -> NetworkConfig {
        let InputContract { height, width, channels: in_channels, .. } = self.train.contract;
        NetworkConfig {
            channels,
            layers,
            classes: self.classes.len(),
            in_channels,
            height,
            width,
            skeleton: Default::default(),
        }
    }
}
