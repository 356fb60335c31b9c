//! Command line of milenas-infer: flags, values and help.

mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use milenas_infer::recipe::ResizeRule;

pub use values::{
    ChannelOrderArg, Exif, FilterArg, FormatArg, LayoutArg, OnError, Outputs, PrecisionArg, RuntimeArg,
    ScoreArg, ShardArg, format_of,
};
use values::{finite, fraction, resize, shard, size};

/// Classifies images in batch with an exported network.
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
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Classify images and write one row for each, in input order.
    #[command(after_help = "\
Examples:
  milenas-infer classify model.onnx photos/ more/cat.jpg 'archive/**/*.png' shard-0.tar -o predictions.csv
  find photos -newer last -print0 | milenas-infer classify model.onnx - --null --format jsonl
  milenas-infer classify model.onnx photos/ -o predictions.csv --resume
  milenas-infer classify resnet50.onnx photos/ --runtime ort --size 224 --labels imagenet.txt

Image formats: JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, QOI and TGA, recognised by content. An animation gives its \
first image. Other formats (HEIC, JPEG XL, AVIF, camera raw files, videos) are rejected with their name. Transparent \
pixels are blended with the background that the model file states, white by default.

Folders are read in order of names. Hidden files, thumbnails and files such as .txt and .onnx are skipped and \
counted.")]
    Classify(Classify),
    /// Measure the accuracy of a model on the test images of a labelled source.
    #[command(after_help = "\
Examples:
  milenas-infer evaluate model.onnx digits --json
  milenas-infer evaluate model.onnx photos/ --compare smaller.onnx --report report.html
  milenas-infer evaluate model.onnx digits --precision bf16")]
    Evaluate(Evaluate),
    /// Merge the outputs of all shards into one file.
    #[command(after_help = "\
Example:
  milenas-infer classify model.onnx photos/ --shard 0/2 -o part-0.csv
  milenas-infer classify model.onnx photos/ --shard 1/2 -o part-1.csv
  milenas-infer merge part-*.csv -o predictions.csv")]
    Merge(Merge),
    /// Measure the speed of a model on this machine: the network alone, or with INPUT every stage.
    #[command(after_help = "\
Example:
  milenas-infer bench model.onnx --batch 32 --json
  milenas-infer bench model.onnx --batch 1 --precision bf16
  milenas-infer bench model.onnx photos/")]
    Bench(Bench),
    /// Print how images are prepared and outputs are read, and the source of each setting.
    #[command(after_help = "\
Examples:
  milenas-infer inspect model.onnx
  milenas-infer inspect resnet50.onnx --runtime ort --labels imagenet.txt")]
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// Model file of milenas-export, or with --runtime ort any ONNX image classifier.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// Model file of milenas-export, or with --runtime ort any ONNX image classifier.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Images on which reading, decoding and preparing are measured, as for classify. Without INPUT, only the network is
    /// measured, on generated images
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Batch size.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Measured batches, after one warm-up batch.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Threads that compute the network [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub limits: ImageLimits,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

#[derive(Debug, Args)]
pub struct Classify {
    /// Model file of milenas-export, or with --runtime ort any ONNX image classifier.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Images, folders (searched recursively), tars, or quoted patterns; - reads paths from standard input.
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// File with one input path per line; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// Paths in the list end with NUL, as written by `find -print0`.
    #[arg(short = '0', long)]
    pub null: bool,

    /// Output file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Output format [default: by the extension of FILE, or csv]
    #[arg(long, value_name = "NAME")]
    pub format: Option<FormatArg>,
    /// Number of classes reported for each image, best first.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: u32,
    /// Omit predictions with a score below X.
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = finite)]
    pub threshold: Option<f32>,
    /// Kind of score.
    #[arg(long, value_name = "NAME", default_value = "probability")]
    pub score: ScoreArg,
    /// Also write the score of every class.
    #[arg(long)]
    pub all_scores: bool,
    /// Also write the input of the last layer, an embedding of the image.
    #[arg(long)]
    pub features: bool,

    /// Handling of images that cannot be read.
    #[arg(long, value_name = "NAME", default_value = "record")]
    pub on_error: OnError,
    /// Resume an interrupted run: inputs that already have a row in FILE are skipped. Model and options must be the same;
    /// FILE.run records them while the run is unfinished
    #[arg(long, requires = "output")]
    pub resume: bool,

    /// Classify only shard I of N of the inputs, counted from 0. `auto` takes both from a Slurm job array or a Kubernetes
    /// Indexed Job
    #[arg(long, value_name = "I/N", requires = "output", value_parser = shard)]
    pub shard: Option<ShardArg>,

    /// Print the time of each stage at the end.
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub sizes: SizeArgs,
    #[command(flatten)]
    pub limits: ImageLimits,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

#[derive(Debug, Args)]
pub struct Evaluate {
    /// Model file of milenas-export, or with --runtime ort any ONNX image classifier.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Image source: digits (built in), cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a
    /// CSV file with columns path and label
    #[arg(value_name = "SRC")]
    pub data: String,
    /// Second model with the same classes; both are evaluated and compared.
    #[arg(long, value_name = "OTHER")]
    pub compare: Option<PathBuf>,
    /// Write an HTML report with the confusion matrix, calibration and the worst mistakes.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub sizes: SizeArgs,
    #[command(flatten)]
    pub limits: ImageLimits,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

#[derive(Debug, Args)]
pub struct Merge {
    /// Outputs of `classify --shard`: every shard, in any order.
    #[arg(value_name = "PART", required = true)]
    pub parts: Vec<PathBuf>,
    /// Format of the parts, csv or jsonl [default: by the extension of the first]
    #[arg(long, value_name = "NAME")]
    pub format: Option<FormatArg>,
    /// Output file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Flags of the runtime.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Runtime")]
pub struct RuntimeArgs {
    /// Runtime that computes the network.
    #[arg(long, value_name = "NAME", default_value = "native")]
    pub runtime: RuntimeArg,
    /// ONNX Runtime library for `ort` [default: ORT_DYLIB_PATH, else the Python package onnxruntime of the active
    /// environment, of ./.venv or of python3]
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Precision of convolutions. bf16 needs the native runtime and a file that is not int8.
    #[arg(long, value_name = "NAME", default_value = "float32")]
    pub precision: PrecisionArg,
    /// Height and width of the input, if the file leaves them open.
    #[arg(long, value_name = "N|HxW", value_parser = size)]
    pub size: Option<[usize; 2]>,
    /// Order of the dimensions of the input, if it does not follow from the file.
    #[arg(long, value_name = "NAME")]
    pub layout: Option<LayoutArg>,
    /// Output with the class scores, if the file has several outputs.
    #[arg(long, value_name = "NAME")]
    pub output_name: Option<String>,
}

/// Preparation of images and meaning of outputs, for files from other programs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Files of other programs (these override the file's own settings)")]
pub struct RecipeArgs {
    /// File with the class names, one per line or JSON [default: class_0, class_1, ...]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Mean subtracted from each channel, for pixels scaled to 0..1, or for 0..255 if a value is above 1. One value applies
    /// to all channels [default: 0.485,0.456,0.406, of ImageNet]
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', num_args = 1, allow_negative_numbers = true)]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation that divides each channel, on the same scale [default: 0.229,0.224,0.225, of ImageNet]
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', num_args = 1)]
    pub std: Option<Vec<f32>>,
    /// Resizing rule. N: shorter side to N pixels, then centre crop. stretch: to the size of the input. letterbox: the
    /// whole image with padding, black or in the given colour, e.g. letterbox:114,114,114
    #[arg(long, value_name = "N|stretch|letterbox[:R,G,B]", value_parser = resize)]
    pub resize: Option<ResizeRule>,
    /// Fraction of the shorter side that the centre crop keeps [default: 0.875]
    #[arg(long, value_name = "X", value_parser = fraction, conflicts_with = "resize")]
    pub crop_fraction: Option<f64>,
    /// Resampling filter, equal to Pillow's of the same name [default: bilinear]
    #[arg(long, value_name = "NAME")]
    pub filter: Option<FilterArg>,
    /// Order of the colour channels in the input [default: rgb]
    #[arg(long, value_name = "NAME")]
    pub channel_order: Option<ChannelOrderArg>,
    /// Handling of the EXIF orientation of an image [default: apply]
    #[arg(long, value_name = "NAME")]
    pub exif: Option<Exif>,
    /// Kind of scores in the output [default: decided by the file and a trial run]
    #[arg(long, value_name = "NAME")]
    pub outputs_are: Option<Outputs>,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct SizeArgs {
    /// Batch size.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Threads that decode images [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,
    /// Threads that compute the network [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

/// Limits on the size of one image.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Limits of image files")]
pub struct ImageLimits {
    /// Largest number of pixels of an image; the memory limit for decoding grows with it [default: 110000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub max_pixels: Option<u64>,
    /// Largest number of decoded bytes for each byte of a file, for images above 70 megapixels [default: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub max_ratio: Option<u64>,
}
