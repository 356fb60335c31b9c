//! The command line of milenas-export: what can be typed. Nothing here touches the world.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use milenas_export::Target;

/// Compiles a trained network into a standalone ONNX file, and proves that the file computes the same.
#[derive(Debug, Parser)]
#[command(
    name = "milenas-export",
    version,
    max_term_width = 110,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Example:
  milenas-export runs/digits-net/weights.safetensors -o model.onnx
  milenas-export DARTS_V2 --target onnxruntime -o darts.onnx
  milenas-export inspect model.onnx"
)]
#[allow(missing_docs)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub export: Export,
}

#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Command {
    /// Print graph, cost and card of weights, a genotype or an ONNX file
    #[command(after_help = "Example:\n  milenas-export inspect model.onnx")]
    Inspect {
        /// model.onnx, weights.safetensors, genotype.json, or the name of a published genotype
        #[arg(value_name = "FILE")]
        file: String,
        #[command(flatten)]
        untrained: Untrained,
    },
}

/// What is compiled, and how.
#[derive(Args, Debug)]
#[allow(missing_docs)]
pub struct Export {
    /// Weights written by `milenas-search train`; or a genotype, by file or published name, which gives an
    /// untrained network
    #[arg(value_name = "WEIGHTS|GENOTYPE", required = true)]
    pub source: Option<String>,
    /// The file to write
    #[arg(short, long, value_name = "FILE", required = true)]
    pub output: Option<PathBuf>,
    /// The reader that the file is made for: portable, onnxruntime or candle-onnx
    #[arg(long, value_name = "READER", default_value = "portable")]
    pub target: Target,
    /// Only these of the passes that simplify, separated by commas; `none` for none of them
    #[arg(long, value_name = "NAMES")]
    pub passes: Option<String>,
    /// Stop simplifying after N patches, to find the one that is wrong
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    pub steps: usize,
    /// Seed of the inputs for the comparison, and of an untrained network
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print every patch
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub untrained: Untrained,
}

/// The size of the network of a genotype; weights carry their own.
#[derive(Args, Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Untrained {
    /// Of a genotype: channels of a node in the first cells
    #[arg(long, value_name = "N", default_value_t = 36, help_heading = "Untrained network")]
    pub channels: usize,
    /// Of a genotype: number of cells
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Untrained network")]
    pub layers: usize,
    /// Of a genotype: number of labels
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Untrained network")]
    pub classes: usize,
    /// Of a genotype: rows and columns of an image
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Untrained network")]
    pub size: usize,
}
