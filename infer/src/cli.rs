//! The command line of milenas-infer: what can be typed. Nothing here touches the world.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Classifies images in batch with a network that milenas-export wrote.
#[derive(Debug, Parser)]
#[command(
    name = "milenas-infer",
    version,
    max_term_width = 110,
    after_help = "\
Example:
  milenas-infer classify model.onnx photos/ -o predictions.csv
  milenas-infer evaluate model.onnx digits

Exit status: 0 done, 1 failed, 2 done but some images could not be read"
)]
#[allow(missing_docs)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Command {
    /// Label images: a CSV row for each, in their order
    #[command(
        after_help = "Example:\n  milenas-infer classify model.onnx photos/ more/cat.jpg -o predictions.csv"
    )]
    Classify {
        /// Written by milenas-export
        #[arg(value_name = "MODEL")]
        model: PathBuf,
        /// Image files, and folders with all images below them
        #[arg(value_name = "INPUT", required = true)]
        inputs: Vec<PathBuf>,
        /// The file to write; standard output if left out
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Images that are computed together
        #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
        batch: u32,
    },
    /// Measure a model on the test images of a labelled source
    #[command(after_help = "Example:\n  milenas-infer evaluate model.onnx digits --json")]
    Evaluate {
        /// Written by milenas-export
        #[arg(value_name = "MODEL")]
        model: PathBuf,
        /// digits, cifar10:DIR, a folder train/CLASS/* and test/CLASS/*, or a tar of one
        #[arg(value_name = "SRC")]
        data: String,
        /// Images that are computed together
        #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
        batch: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}
