//! Options shared by several commands, and the configuration keys they set.

use std::path::PathBuf;

use clap::Args;

use milenas_models::Space;
use milenas_search::score::{self, SCORES, Score};
use milenas_search::strategy::Rule;
use milenas_search::strategy::black_box::STRATEGIES;
use milenas_search::supernet::DeviceSpec;

/// Options for the update of the architecture. Each one sets a key of the configuration.
#[derive(Debug, Default, Args)]
pub struct RuleOptions {
    /// Weight of the validation loss relative to the training loss; for milenas and milenas-2nd only.
    #[arg(long, value_name = "X")]
    pub lambda: Option<f64>,
    /// Mixture of candidate operations. softmax: weighted sum of all; gumbel: one sampled per edge, cell and pass
    /// (GDAS), in a quarter of the time per step.
    #[arg(long, value_name = "KIND", value_parser = ["softmax", "gumbel"])]
    pub mixture: Option<String>,
    /// Apply candidates to 1/K of the channels, and learn a weight per edge (PC-DARTS), which saves time and memory.
    /// K must divide the number of channels; 4 is common.
    #[arg(long, value_name = "K")]
    pub partial_channels: Option<u16>,
    /// Compatibility. released: as the released MiLeNAS code, without gradient clipping, without momentum in the
    /// unrolled step, and with lambda on the training loss; none: as the paper.
    #[arg(long, value_name = "NAME", value_parser = ["none", "released"])]
    pub compat: Option<String>,
}

/// Genotype and initial weights of a training.
#[derive(Debug, Args)]
pub struct StartOptions {
    /// Genotype: a file (JSON, the published text, or a log that contains one), a published name, the text of a
    /// NAS-Bench-201 cell, or random:SEED.
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
    /// Genotype files, published names, random:SEED of the space, or the text of a NAS-Bench-201 cell.
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
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "naswot", help = metric_help())]
    pub metric: Vec<String>,
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
    /// CSV file to write: architecture, params, macs, then a column per metric [default: standard output].
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Parser of a seed. TOML integers have 64 bits with a sign, so a seed is at most 2^63 - 1.
fn seed() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}

/// Parser of a space's name.
fn spaces() -> clap::builder::PossibleValuesParser {
    Space::ALL.map(|space| space.name).into()
}

/// Help of `--strategy`, from the tables of strategies.
fn strategy_help() -> String {
    format!(
        "Strategy: by gradients ({}), or by evaluating whole architectures ({})",
        Rule::names().join(", "),
        STRATEGIES.map(|(name, _)| name).join(", ")
    )
}

/// Help of `--metric`, from the table of scores.
fn metric_help() -> String {
    let scores: Vec<String> = SCORES.iter().map(|s| format!("{}: {}", s.name(), s.doc())).collect();
    format!(
        "Metrics, separated by commas, or all. Several metrics add a column `aggregate`, the sum of the logarithms of \
         the ranks. {}.",
        scores.join("; ")
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
        let always = |metric: &&dyn Score| ["params", "macs"].contains(&metric.name());
        if self.metric.iter().any(|name| name == "all") {
            return Ok(SCORES.into_iter().filter(|metric| !always(metric)).collect());
        }
        let named =
            self.metric.iter().map(|name| score::named(name)).collect::<milenas_models::Result<Vec<_>>>()?;
        Ok(named.into_iter().filter(|metric| !always(metric)).collect())
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
    /// Preset that the configuration starts from: smoke, laptop, paper or imagenet [default: smoke].
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
    /// Search space: darts, or nasbench201, whose 15,625 cells have published accuracies.
    #[arg(long, value_name = "NAME", value_parser = spaces())]
    pub space: Option<String>,
    #[arg(long, value_name = "NAME", help = strategy_help())]
    pub strategy: Option<String>,
    #[command(flatten)]
    pub rule: RuleOptions,
    /// Number of epochs at the start that use the bilevel strategy (key search.bilevel_strategy).
    #[arg(long, value_name = "N")]
    pub bilevel_epochs: Option<usize>,
    /// Resume an interrupted search with the configuration in OUT/config.toml, from OUT/checkpoint.safetensors or
    /// from the evaluations in OUT/history.csv.
    #[arg(long)]
    pub resume: bool,
    /// Stop when the derived normal cell has at most N convolutions and the reduction cell at most R, e.g. n=6,r=0.
    #[arg(long, value_name = "n=N,r=R")]
    pub stop_at_size: Option<String>,
    /// Comparison of --stop-at-size: at-most, or exactly (as the released code).
    #[arg(long, value_name = "RULE")]
    pub stop_rule: Option<String>,
    /// Stop after this time, e.g. 2h or 90m; the times of resumed runs are added.
    #[arg(long, value_name = "TIME")]
    pub time_budget: Option<String>,
    /// Choose the largest genotype with at most N parameters, for a network of train.channels and train.layers.
    /// Strategies that evaluate whole architectures evaluate only those within the limit.
    #[arg(long, value_name = "N")]
    pub max_params: Option<u64>,
    /// Choose the largest genotype with at most N multiply-accumulates per image; see --max-params.
    #[arg(long, value_name = "N")]
    pub max_macs: Option<u64>,
}

/// Formats the options that are given as `search.KEY=VALUE`.
fn sets<const N: usize>(pairs: [(&str, Option<String>); N]) -> impl Iterator<Item = String> {
    pairs.into_iter().filter_map(|(key, value)| Some(format!("search.{key}={}", value?)))
}

impl RuleOptions {
    /// Returns the configuration keys that the options set, as `KEY=VALUE`.
    pub fn sets(&self) -> Vec<String> {
        let pairs = [
            ("lambda", self.lambda.map(|x| x.to_string())),
            ("mixture", self.mixture.clone()),
            ("partial_channels", self.partial_channels.map(|k| k.to_string())),
            ("compat", self.compat.clone()),
        ];
        sets(pairs).collect()
    }
}

impl SearchOptions {
    /// Returns the configuration keys that the options set, as `KEY=VALUE`.
    pub fn sets(&self) -> Vec<String> {
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        let pairs = [
            ("space", self.space.clone()),
            ("strategy", self.strategy.clone()),
            ("bilevel_epochs", self.bilevel_epochs.map(|n| n.to_string())),
            ("stop.at_size", self.stop_at_size.clone()),
            ("stop.rule", self.stop_rule.clone()),
            ("stop.time_budget", self.time_budget.clone()),
            ("stop.max_params", number(self.max_params)),
            ("stop.max_macs", number(self.max_macs)),
        ];
        self.rule.sets().into_iter().chain(sets(pairs)).collect()
    }
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
