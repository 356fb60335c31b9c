//! Options shared by several commands, and the configuration keys they set.

use std::path::PathBuf;

use clap::Args;

use milenas_models::space::{SPACES, Space};
use milenas_search::score::{self, Aggregate, SCORES, Score};
use milenas_search::supernet::DeviceSpec;

use super::settings::SettingOptions;

/// Genotype and initial weights of a training.
#[derive(Debug, Args)]
pub struct StartOptions {
    /// Genotype: a file (JSON, the published text, or a log that contains one), a published name, the text of a
    /// NAS-Bench-201 cell, or random:SPACE:SEED (random:SEED for the space of search.space).
    #[arg(long, value_name = "FILE|NAME", required_unless_present = "from_supernet")]
    pub genotype: Option<String>,
    /// Start from the supernet weights of the search in folder RUN, with its channels, layers, image size and
    /// data split. Uses RUN/genotype.json without --genotype, and RUN/config.toml without --preset and --config.
    #[arg(long, value_name = "RUN")]
    pub from_supernet: Option<PathBuf>,
}

/// Weights and images of an evaluation.
#[derive(Debug, Args)]
pub struct EvalOptions {
    /// Weights file written by `train`.
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// Image source: digits (built in), cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a CSV file with
    /// columns path and label.
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Write a CSV file with the prediction for each image, with the columns of `milenas-infer classify`.
    #[arg(long, value_name = "FILE.csv")]
    pub predictions: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Architectures, metrics and batch of `score`.
#[derive(Debug, Args)]
pub struct ScoreOptions {
    /// Genotype files, published names, random:SEED of the space, random:SPACE:SEED, or the text of a NAS-Bench-201
    /// cell.
    #[arg(value_name = "GENOTYPE")]
    pub genotypes: Vec<String>,
    /// Number of different architectures to sample from the space; nasbench201 has 15625.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub sample: usize,
    /// Search space to sample from.
    #[arg(long, value_name = "NAME", default_value = "nasbench201", value_parser = spaces())]
    pub space: String,
    /// Image source: digits (built in), cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a CSV file with
    /// columns path and label.
    #[arg(long, value_name = "SRC")]
    pub data: String,
    #[arg(long, value_name = "NAME", value_delimiter = ',', help = metric_help())]
    pub metric: Vec<String>,
    #[arg(long, value_name = "A+B", value_delimiter = ',', help = aggregate_help())]
    pub score: Vec<String>,
    /// Number of training images in the batch, without augmentation.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = counted)]
    pub batch: usize,
    /// Channels of the first cells.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = counted)]
    pub channels: usize,
    /// Number of cells, reduction cells included; NAS-Bench-201 has 17 (three stages of five, two reductions).
    #[arg(long, value_name = "N", default_value_t = 17, value_parser = counted)]
    pub layers: usize,
    /// Seed for samples, images and weights.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed())]
    pub seed: u64,
    /// CSV file to write: architecture, params, macs, then a column per metric and per aggregate [default: standard output].
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Architectures to analyze, and what to write.
#[derive(Args, Debug)]
pub struct AnalyzeOptions {
    /// Run folders of searches, genotype files, published names, random:SEED, or the text of a NAS-Bench-201 cell.
    #[arg(value_name = "GENOTYPE", required = true)]
    pub genotypes: Vec<String>,
    /// Also analyze other wirings of the same operations: the widest, the deepest, and N random ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=1000))]
    pub variants: Option<u64>,
    /// Folder for the genotype files of all analyzed architectures.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Search space of random:SEED.
    #[arg(long, value_name = "NAME", default_value = "darts", value_parser = spaces())]
    pub space: String,
    /// Channels of the first cells of the network.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = counted)]
    pub channels: usize,
    /// Number of cells of the network, reduction cells included.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = counted)]
    pub layers: usize,
    /// Side of the images, in pixels.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = counted)]
    pub size: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Parser of a seed. TOML integers have 64 bits with a sign, so a seed is at most 2^63 - 1.
fn seed() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}

/// Parser of a space's name.
fn spaces() -> clap::builder::PossibleValuesParser {
    SPACES.map(Space::name).into()
}

/// Help of `--metric`, from the table of scores.
fn metric_help() -> String {
    let scores: Vec<String> = SCORES.iter().map(|s| format!("{}: {}", s.name(), s.doc())).collect();
    format!(
        "Metrics, separated by commas, or all, or aggregate for those of the default aggregate [default: naswot, without \
         --score]. Several metrics add a column `aggregate`, the sum of the logarithms of the ranks. {}.",
        scores.join("; ")
    )
}

/// Help of `--score`, with the names of aggregates.
fn aggregate_help() -> String {
    let known: Vec<String> = Aggregate::named().map(|(name, scores)| format!("{name}: {scores}")).collect();
    format!(
        "Aggregates, separated by commas: metrics with + between them, or a name. Each adds a column with its name, the \
         sum of the logarithms of the ranks, and columns of its metrics. {}.",
        known.join("; ")
    )
}

/// Parses a count of 2 to 100,000.
fn counted(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (2..=100_000).contains(n)).ok_or_else(|| "expected 2 to 100000".into())
}

impl ScoreOptions {
    /// Returns the metrics, without `params` and `macs`, which every table has.
    ///
    /// # Errors
    /// Fails for an unknown metric, and for a metric that is named twice: it would count twice in the
    /// aggregate.
    pub fn metrics(&self) -> milenas_models::Result<Vec<&'static dyn Score>> {
        if let Some(i) = (1..self.metric.len()).find(|&i| self.metric[..i].contains(&self.metric[i])) {
            let found = format!("{} twice", self.metric[i]);
            let expected = "each metric once".into();
            return Err(milenas_models::Error::Value { what: "--metric".into(), found, expected });
        }
        let names: Vec<&str> = self.metric.iter().map(String::as_str).collect();
        let found = match names[..] {
            [] if self.score.is_empty() => vec![score::named("naswot")?],
            ["aggregate"] => Aggregate::parse(Aggregate::DEFAULT)?.scores().to_vec(),
            _ if names.contains(&"aggregate") => {
                return Err(milenas_models::Error::Value {
                    what: "--metric".into(),
                    found: "aggregate beside other metrics".into(),
                    expected: format!("aggregate alone, or --score {} beside --metric", Aggregate::DEFAULT),
                });
            }
            _ if names.contains(&"all") => SCORES.to_vec(),
            _ => names.into_iter().map(score::named).collect::<milenas_models::Result<_>>()?,
        };
        Ok(found.into_iter().filter(|metric| !["params", "macs"].contains(&metric.name())).collect())
    }

    /// Returns the aggregates.
    ///
    /// # Errors
    /// Fails for an unknown score or aggregate, and for a score or aggregate that is named twice.
    pub fn aggregates(&self) -> milenas_models::Result<Vec<Aggregate>> {
        if let Some(i) = (1..self.score.len()).find(|&i| self.score[..i].contains(&self.score[i])) {
            let found = format!("{} twice", self.score[i]);
            let expected = "each aggregate once".into();
            return Err(milenas_models::Error::Value { what: "--score".into(), found, expected });
        }
        self.score.iter().map(|text| Aggregate::parse(text)).collect()
    }
}

/// Options shared by all runs.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// Image source: digits (built in), cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a CSV file with
    /// columns path and label.
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Preset that the configuration starts from: smoke, laptop, gradient, paper or imagenet [default: smoke].
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// TOML file whose keys replace those of the preset.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one configuration key, e.g. search.epochs=20; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed for all random choices.
    #[arg(long, value_name = "N", value_parser = seed())]
    pub seed: Option<u64>,
    /// Device: cpu, or cuda:N for NVIDIA GPU N in a build with the feature `cuda`; cuda:N,tf32 and cuda:N,bf16
    /// use these formats for matrix products.
    #[arg(long = "device", value_name = "NAME", default_value = "cpu")]
    pub place: DeviceSpec,
}

impl RunOptions {
    /// Returns the options of a run on a source, without a folder.
    pub fn for_data(data: &str) -> Self {
        RunOptions {
            data: data.into(),
            out: PathBuf::new(),
            preset: None,
            config: None,
            set: Vec::new(),
            seed: None,
            place: DeviceSpec::Cpu,
        }
    }
}

/// Options of a search.
#[derive(Debug, Args)]
pub struct SearchOptions {
    #[command(flatten)]
    pub settings: SettingOptions,
    /// Resume an interrupted search with the configuration in OUT/config.toml, from OUT/checkpoint.safetensors or
    /// from the evaluations in OUT/history.csv.
    #[arg(long)]
    pub resume: bool,
}

/// Options shared by the benchmarks.
#[derive(Clone, Copy, Debug, Args)]
pub struct BenchSize {
    /// Channels of a node in the first cells.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub channels: u32,
    /// Number of cells.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub layers: u32,
    /// Number of images in a step.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Number of measured steps.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Number of threads [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
