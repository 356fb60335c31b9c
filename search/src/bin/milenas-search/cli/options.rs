//! What several commands can be told, and what it sets in the configuration.

use std::path::PathBuf;

use clap::Args;

use milenas_search::score::Metric;
use milenas_search::supernet::DeviceSpec;

/// How a search moves the architecture: each is short for a key of the configuration.
#[derive(Debug, Default, Args)]
#[allow(missing_docs)]
pub struct RuleOptions {
    /// Weight of the validation loss beside the training loss, of milenas and milenas-2nd alone
    #[arg(long, value_name = "X")]
    pub lambda: Option<f64>,
    /// softmax: all candidates; gumbel: one an edge, drawn for each cell and pass (GDAS), much cheaper
    #[arg(long, value_name = "KIND", value_parser = ["softmax", "gumbel"])]
    pub mixture: Option<String>,
    /// Candidates see 1/K of a state's channels, and edges have weights of their own (PC-DARTS): less time and memory; K divides
    /// the channels, 4 is usual
    #[arg(long, value_name = "K")]
    pub partial_channels: Option<u16>,
    /// released: reproduce the released code: no clip on the weights, no momentum in the unrolled step, lambda on the
    /// training loss
    #[arg(long, value_name = "NAME", value_parser = ["none", "released"])]
    pub compat: Option<String>,
}

/// What a training begins with.
#[derive(Debug, Args)]
#[allow(missing_docs)]
pub struct StartOptions {
    /// A genotype file (JSON, the published text, or a log with one), the name of a published one, NAS-Bench-201's text, or
    /// random:SEED
    #[arg(long, value_name = "FILE|NAME", required_unless_present = "from_supernet")]
    pub genotype: Option<String>,
    /// The folder of a search: begin with the weights that its supernet has for the genotype, RUN/genotype.json if none is
    /// given, at its channels and layers, with images sized and split as its own; without --preset and --config at its configuration
    #[arg(long, value_name = "RUN")]
    pub from_supernet: Option<PathBuf>,
}

/// What is scored, and how.
#[derive(Debug, Args)]
#[allow(missing_docs)]
pub struct EvalOptions {
    /// Weights written by `train`
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// digits, cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a CSV file of path
    /// and label
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Write the prediction of every image, in the columns of `milenas-infer classify`
    #[arg(long, value_name = "FILE.csv")]
    pub predictions: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[allow(missing_docs)]
pub struct ScoreOptions {
    /// Genotype files, names of published ones, random:SEED of the space, or the text of a NAS-Bench-201 cell
    #[arg(value_name = "GENOTYPE")]
    pub genotypes: Vec<String>,
    /// Draw so many different architectures of the space; nasbench201 has 15625
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub sample: usize,
    /// The space to draw from
    #[arg(long, value_name = "NAME", default_value = "nasbench201", value_parser = ["darts", "nasbench201"])]
    pub space: String,
    /// digits, cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a CSV file of path
    /// and label
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// naswot, synflow, grad_norm, jacob_cov, params, macs, convolutions, or all, with commas between them; several end in their
    /// aggregate, the sum of the logarithms of the ranks
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "naswot")]
    pub metric: Vec<String>,
    /// Images of the batch, training images as they are
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = counted)]
    pub batch: usize,
    /// Channels of the first cells
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = counted)]
    pub channels: usize,
    /// Cells, reductions counted; 17 are NAS-Bench-201's three times five
    #[arg(long, value_name = "N", default_value_t = 17, value_parser = counted)]
    pub layers: usize,
    /// Decides draws, images and weights
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed())]
    pub seed: u64,
    /// A CSV file: architecture,params,macs, then a column for each metric [the terminal]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What a configuration, which is TOML, can hold.
fn seed() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}

fn counted(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (2..=100_000).contains(n)).ok_or_else(|| "expected 2 to 100000".into())
}

impl ScoreOptions {
    /// The metrics, without those that every table has.
    ///
    /// # Errors
    /// An unknown name, one that is there twice: it would weigh twice in the aggregate.
    pub fn metrics(&self) -> milenas_models::Result<Vec<Metric>> {
        if let Some(i) = (1..self.metric.len()).find(|&i| self.metric[..i].contains(&self.metric[i])) {
            let found = format!("{} twice", self.metric[i]);
            let expected = "each metric once".into();
            return Err(milenas_models::Error::Value { what: "--metric".into(), found, expected });
        }
        let always = |metric: &Metric| matches!(metric, Metric::Params | Metric::Macs);
        if self.metric.iter().any(|name| name == "all") {
            return Ok(Metric::ALL.into_iter().filter(|metric| !always(metric)).collect());
        }
        let named =
            self.metric.iter().map(|name| name.parse()).collect::<milenas_models::Result<Vec<_>>>()?;
        Ok(named.into_iter().filter(|metric| !always(metric)).collect())
    }
}

/// What runs have in common.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs)]
pub struct RunOptions {
    /// digits, cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a CSV file of path
    /// and label
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// The folder of the run
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Where the configuration starts [smoke, laptop, paper, imagenet; smoke if left out]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A TOML file whose keys replace the preset's
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One key, e.g. search.epochs=20; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Decides every random choice
    #[arg(long, value_name = "N", value_parser = seed())]
    pub seed: Option<u64>,
    /// Where to compute: cpu, or cuda:N for NVIDIA GPU N in a build with the feature `cuda` (cuda:N,tf32 or cuda:N,bf16 for products in these)
    #[arg(long = "device", value_name = "NAME", default_value = "cpu")]
    pub place: DeviceSpec,
}

impl RunOptions {
    /// The preset's configuration for a source, in no folder.
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

/// What searches alone have.
#[derive(Debug, Args)]
#[allow(missing_docs)]
pub struct SearchOptions {
    /// The cells to search among: darts, or nasbench201, whose 15,625 cells have a published table of accuracies
    #[arg(long, value_name = "NAME", value_parser = ["darts", "nasbench201"])]
    pub space: Option<String>,
    /// The rule for the architecture's gradient [milenas, milenas-2nd, darts-1st, darts-2nd, single-level], or how to judge
    /// architectures one by one [naswot, area, random, evolution]
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<String>,
    #[command(flatten)]
    pub rule: RuleOptions,
    /// Epochs at the start that are bilevel, by the key search.bilevel_strategy, before the strategy takes over
    #[arg(long, value_name = "N")]
    pub bilevel_epochs: Option<usize>,
    /// Go on from OUT/checkpoint.safetensors, or what has been judged, with OUT/config.toml, after a kill or a crash
    #[arg(long)]
    pub resume: bool,
    /// End when the derived cells have so few convolutions: at most n=N in the normal cell and r=R in the reduction
    /// cell, e.g. n=6,r=0
    #[arg(long, value_name = "n=N,r=R")]
    pub stop_at_size: Option<String>,
    /// at-most, or exactly as the released code compares
    #[arg(long, value_name = "RULE")]
    pub stop_rule: Option<String>,
    /// End after this time, e.g. 2h or 90m, resumed runs counted together
    #[arg(long, value_name = "TIME")]
    pub time_budget: Option<String>,
    /// Choose the largest genotype found with at most so many parameters, at train.channels and train.layers; strategies that judge
    /// one by one look at no others
    #[arg(long, value_name = "N")]
    pub max_params: Option<u64>,
    /// The same of multiply-accumulates an image
    #[arg(long, value_name = "N")]
    pub max_macs: Option<u64>,
}

/// `KEY=VALUE` for those that are given.
fn sets<const N: usize>(pairs: [(&str, Option<String>); N]) -> impl Iterator<Item = String> {
    pairs.into_iter().filter_map(|(key, value)| Some(format!("search.{key}={}", value?)))
}

impl RuleOptions {
    /// What the options set in the configuration.
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
    /// What the options set in the configuration.
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

/// What benches have in common.
#[derive(Clone, Copy, Debug, Args)]
#[allow(missing_docs)]
pub struct BenchSize {
    /// Channels of a node in the first cells
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub channels: u32,
    /// Cells
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub layers: u32,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Measured steps
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Threads; all cores if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
