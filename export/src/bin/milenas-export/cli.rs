//! Command line of milenas-export: flags, values and help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use milenas_export::int8::Method;
use milenas_export::untrained::UntrainedSize;
use milenas_export::{Target, onnx};
use milenas_models::fused::Precision;

/// Compiles a trained network into a standalone ONNX file and verifies that both give equal outputs.
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
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub export: Export,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a summary of weights, a genotype or an ONNX file: genotype, cells, cost, inputs, outputs and card.
    #[command(after_help = "Example:\n  milenas-export inspect model.onnx --dot cells.dot")]
    Inspect(InspectOptions),
}

/// Source and contents of a summary.
#[derive(Args, Debug)]
pub struct InspectOptions {
    /// model.onnx, weights.safetensors, a genotype file, or the name or text of a genotype.
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Also print every node of the graph with its shape.
    #[arg(long)]
    pub graph: bool,
    /// Also print the steps in which milenas-infer computes the network, with operands of this format.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = "float32", require_equals = true)]
    pub schedule: Option<OperandFormat>,
    /// Also write the cells to FILE as Graphviz DOT; `dot -Tsvg FILE` draws them.
    #[arg(long, value_name = "FILE")]
    pub dot: Option<PathBuf>,
    /// Also measure the latency on this machine at batch 1 and 32, on all threads.
    #[arg(long)]
    pub latency: bool,
    #[command(flatten)]
    pub untrained: Untrained,
}

/// Format of the operands of convolutions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OperandFormat {
    /// float32.
    Float32,
    /// bfloat16, as milenas-infer --precision bf16.
    Bf16,
}

impl From<OperandFormat> for Precision {
    fn from(format: OperandFormat) -> Precision {
        match format {
            OperandFormat::Float32 => Precision::Float32,
            OperandFormat::Bf16 => Precision::Bf16,
        }
    }
}

/// Source, output and options of a compilation.
#[derive(Args, Debug)]
pub struct Export {
    /// Weights written by `milenas-search train`, or a genotype (file, published name or text) for an untrained network.
    #[arg(value_name = "WEIGHTS|GENOTYPE", required = true)]
    pub source: Option<String>,
    /// Output file.
    #[arg(short = 'o', long = "out", value_name = "FILE", required = true)]
    pub out: Option<PathBuf>,
    /// Reader that the file is optimised for: portable, onnxruntime or candle-onnx.
    #[arg(long, value_name = "READER", default_value = "portable")]
    pub target: Target,
    /// ONNX operator set of the file.
    #[arg(long, value_name = "13..22", default_value_t = onnx::OPSET)]
    pub opset: i64,
    /// Fixed batch size [default: any]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: Option<u16>,
    /// Input of the file: normalised float32 [N, C, H, W], or uint8 [N, H, W, C] as decoders return, with normalisation
    /// inside the graph
    #[arg(long, value_enum, default_value_t)]
    pub input: InputArg,
    /// Output of the file.
    #[arg(long, value_enum, default_value_t)]
    pub output: OutputArg,
    /// Store weights as float16 and cast them to float32 before use: half the size, same speed. Inputs and outputs stay
    /// float32
    #[arg(long)]
    pub fp16: bool,
    /// Quantise weights and activations to 8 bits, as QuantizeLinear and DequantizeLinear: weights take a quarter of the
    /// bytes, and readers with integer kernels are faster. Needs --calibrate for the ranges and the accuracy
    #[arg(long, requires = "calibrate", conflicts_with = "fp16")]
    pub int8: bool,
    /// Labelled images (digits, cifar10:DIR, a folder or a tar). Up to 64 training images are added to the comparison. With
    /// --int8, up to 263 others set the ranges and up to 987 others measure the accuracy
    #[arg(long, value_name = "SRC", alias = "calibration")]
    pub calibrate: Option<String>,
    /// Method that sets the range of an activation for --int8: min-max, percentile or entropy.
    #[arg(long, value_name = "METHOD", default_value = "min-max", requires = "int8")]
    pub calibration_method: Method,
    /// Largest loss of top-1 accuracy by --int8, in points. If it is exceeded, the most sensitive layers stay float32.
    #[arg(long, value_name = "POINTS", default_value_t = 0.3, requires = "int8", value_parser = points)]
    pub accuracy_gate: f64,
    /// Write a JSON report of the comparison, the passes and the sizes.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Also write labels.txt and preprocess.json beside the file.
    #[arg(long)]
    pub sidecars: bool,
    /// Also write a model repository for Triton Inference Server; the model is named after the file.
    #[arg(long, value_name = "DIR")]
    pub triton: Option<PathBuf>,
    /// Licence of the model, e.g. CC-BY-4.0, stored as `model_license` in the metadata.
    #[arg(long, value_name = "NAME")]
    pub license: Option<String>,
    /// Simplifying passes to run, separated by commas, or `none` [default: all]
    #[arg(long, value_name = "NAMES")]
    pub passes: Option<String>,
    /// Skip this pass; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub skip_pass: Vec<String>,
    /// Stop the simplification after N patches, to find a wrong patch.
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    pub stop_after: usize,
    /// Seed of the inputs of the comparison, and of an untrained network.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print every patch.
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub untrained: Untrained,
}

/// Input of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InputArg {
    #[default]
    Float32,
    Uint8,
}

/// Output of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputArg {
    #[default]
    Logits,
    Probabilities,
}

/// Size of an untrained network; weights carry their own.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Untrained {
    /// Channels of a node in the first cells [default: 36]
    #[arg(long, value_name = "N", help_heading = "Untrained network")]
    pub channels: Option<usize>,
    /// Number of cells [default: 20]
    #[arg(long, value_name = "N", help_heading = "Untrained network")]
    pub layers: Option<usize>,
    /// Number of classes [default: 10]
    #[arg(long, value_name = "N", help_heading = "Untrained network")]
    pub classes: Option<usize>,
    /// Height and width of the input, in pixels [default: 32]
    #[arg(long, value_name = "N", help_heading = "Untrained network")]
    pub size: Option<usize>,
}

impl Untrained {
    /// Returns whether any size was given.
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
