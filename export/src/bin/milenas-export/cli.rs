//! The command line of milenas-export: what can be typed. Nothing here touches the world.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use milenas_export::int8::Method;
use milenas_export::untrained::UntrainedSize;
use milenas_export::{Target, onnx};

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
  milenas-export runs/digits-net/weights.safetensors --input uint8 --output probabilities -o server.onnx
  milenas-export runs/digits-net/weights.safetensors --int8 --calibrate digits -o small.onnx
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
    /// Print a summary of weights, a genotype or an ONNX file: genotype, cells, cost, inputs, outputs and card
    #[command(after_help = "Example:\n  milenas-export inspect model.onnx --dot cells.dot")]
    Inspect {
        /// model.onnx, weights.safetensors, a genotype file, or the name or the text of a genotype
        #[arg(value_name = "FILE")]
        file: String,
        /// Also print every node of the graph with its shape
        #[arg(long)]
        graph: bool,
        /// Also write the cells to FILE as Graphviz DOT; `dot -Tsvg FILE` draws them
        #[arg(long, value_name = "FILE")]
        dot: Option<PathBuf>,
        /// Also measure the latency on this machine at batch 1 and 32, on all threads
        #[arg(long)]
        latency: bool,
        #[command(flatten)]
        untrained: Untrained,
    },
}

/// What is compiled, and how.
#[derive(Args, Debug)]
#[allow(missing_docs)]
pub struct Export {
    /// Weights written by `milenas-search train`; or a genotype, by file, published name or text, which gives an
    /// untrained network
    #[arg(value_name = "WEIGHTS|GENOTYPE", required = true)]
    pub source: Option<String>,
    /// The file to write
    #[arg(short = 'o', long = "out", value_name = "FILE", required = true)]
    pub out: Option<PathBuf>,
    /// The reader that the file is made for: portable, onnxruntime or candle-onnx
    #[arg(long, value_name = "READER", default_value = "portable")]
    pub target: Target,
    /// The operator set of the file, with the smallest version of the format that has it
    #[arg(long, value_name = "13..22", default_value_t = onnx::OPSET)]
    pub opset: i64,
    /// Batches of this one size; without it, of any
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: Option<u16>,
    /// What the file takes: normalised float32 [N, C, H, W], or bytes [N, H, W, C] as decoders give them, with the
    /// normalisation in the graph
    #[arg(long, value_enum, default_value_t)]
    pub input: InputArg,
    /// What the file gives
    #[arg(long, value_enum, default_value_t)]
    pub output: OutputArg,
    /// Store weights as float16, with a Cast to float32 before each use: half the size, the same speed, inputs and
    /// results stay float32
    #[arg(long)]
    pub fp16: bool,
    /// Weights and activations of eight bits, as QuantizeLinear and DequantizeLinear: a quarter of the size, faster
    /// where the reader has integer kernels. Needs images to find the ranges with, and some to measure with
    #[arg(long, requires = "calibrate", conflicts_with = "fp16")]
    pub int8: bool,
    /// Labelled images (digits, cifar10:DIR, a folder or a tar): the comparison also runs up to 64 of its training part;
    /// with --int8, up to 250 others are for the ranges and 1,000 for the accuracy
    #[arg(long, value_name = "SRC", alias = "calibration")]
    pub calibrate: Option<String>,
    /// How --int8 finds the range of an activation: min-max, percentile or entropy
    #[arg(long, value_name = "METHOD", default_value = "min-max", requires = "int8")]
    pub calibration_method: Method,
    /// Points of top-1 accuracy that --int8 may cost; the most sensitive layers stay float32 until it holds
    #[arg(long, value_name = "POINTS", default_value_t = 0.3, requires = "int8", value_parser = points)]
    pub accuracy_gate: f64,
    /// Write what was compared, done and gained as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Also write labels.txt and preprocess.json beside the file
    #[arg(long)]
    pub sidecars: bool,
    /// Also write a model repository for Triton Inference Server; the model has the file's name
    #[arg(long, value_name = "DIR")]
    pub triton: Option<PathBuf>,
    /// The licence of the model, e.g. CC-BY-4.0, as `model_license` in the file's metadata
    #[arg(long, value_name = "NAME")]
    pub license: Option<String>,
    /// Only these of the passes that simplify, separated by commas; `none` for none of them
    #[arg(long, value_name = "NAMES")]
    pub passes: Option<String>,
    /// Leave out this pass; may be given several times
    #[arg(long, value_name = "NAME")]
    pub skip_pass: Vec<String>,
    /// Stop simplifying after N patches, to find the one that is wrong
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    pub stop_after: usize,
    /// Seed of the inputs for the comparison, and of an untrained network
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print every patch
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub untrained: Untrained,
}

/// What a file takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum InputArg {
    #[default]
    Float32,
    Uint8,
}

/// What a file gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum OutputArg {
    #[default]
    Logits,
    Probabilities,
}

/// The size of the network of a genotype; weights carry their own.
#[derive(Args, Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Untrained {
    /// Of a genotype: channels of a node in the first cells; 36 if left out
    #[arg(long, value_name = "N", help_heading = "Untrained network")]
    pub channels: Option<usize>,
    /// Of a genotype: number of cells; 20 if left out
    #[arg(long, value_name = "N", help_heading = "Untrained network")]
    pub layers: Option<usize>,
    /// Of a genotype: number of labels; 10 if left out
    #[arg(long, value_name = "N", help_heading = "Untrained network")]
    pub classes: Option<usize>,
    /// Of a genotype: rows and columns of an image; 32 if left out
    #[arg(long, value_name = "N", help_heading = "Untrained network")]
    pub size: Option<usize>,
}

impl Untrained {
    /// Whether any of it was given.
    pub fn is_asked(&self) -> bool {
        [self.channels, self.layers, self.classes, self.size].iter().any(Option::is_some)
    }
}

impl From<Untrained> for UntrainedSize {
    fn from(asked: Untrained) -> Self {
        let default = UntrainedSize::default();
        UntrainedSize {
            channels: asked.channels.unwrap_or(default.channels),
            layers: asked.layers.unwrap_or(default.layers),
            classes: asked.classes.unwrap_or(default.classes),
            size: asked.size.unwrap_or(default.size),
        }
    }
}

fn points(text: &str) -> Result<f64, String> {
    let points = text.parse().ok().filter(|points| (0.0..=100.0).contains(points));
    points.ok_or_else(|| "expected points from 0 to 100".into())
}
