//! The command line of milenas-infer: what can be typed. Nothing here touches the world.

mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use milenas_infer::recipe::ResizeRule;

pub use values::{
    ChannelOrderArg, Exif, FilterArg, FormatArg, LayoutArg, OnError, Outputs, PrecisionArg, RuntimeArg,
    ScoreArg, ShardArg, format_of,
};
use values::{finite, fraction, resize, shard, size};

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
    /// Label images: a row for each, in their order
    #[command(after_help = "\
Examples:
  milenas-infer classify model.onnx photos/ more/cat.jpg 'archive/**/*.png' shard-0.tar -o predictions.csv
  find photos -newer last -print0 | milenas-infer classify model.onnx - --null --format jsonl
  milenas-infer classify model.onnx photos/ -o predictions.csv --resume
  milenas-infer classify resnet50.onnx photos/ --runtime ort --size 224 --labels imagenet.txt

JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, QOI and TGA are read, by their content and not by their name; of an animation,
the first image. Other formats (HEIC, JPEG XL, AVIF, camera raw files, videos) are refused by their names. Transparent
pixels lie on the background that the model file states: white, if it was not changed.
Folders are read in the order of names; hidden files, thumbnails and endings such as .txt and .onnx are skipped
there and counted.")]
    Classify(Classify),
    /// Measure a model on the test images of a labelled source
    #[command(after_help = "\
Examples:
  milenas-infer evaluate model.onnx digits --json
  milenas-infer evaluate model.onnx photos/ --compare smaller.onnx --report report.html
  milenas-infer evaluate model.onnx digits --precision bf16")]
    Evaluate(Evaluate),
    /// Put the results of shards together again, if they are complete
    #[command(after_help = "\
Example:
  milenas-infer classify model.onnx photos/ --shard 0/2 -o part-0.csv
  milenas-infer classify model.onnx photos/ --shard 1/2 -o part-1.csv
  milenas-infer merge part-*.csv -o predictions.csv")]
    Merge(Merge),
    /// Measure how fast a model runs on this machine: the network alone, and with INPUT each stage on the way to it
    #[command(after_help = "\
Example:
  milenas-infer bench model.onnx --batch 32 --json
  milenas-infer bench model.onnx --batch 1 --precision bf16
  milenas-infer bench model.onnx photos/")]
    Bench(Bench),
    /// Show how a model is fed and read, and where each part of that comes from
    #[command(after_help = "\
Examples:
  milenas-infer inspect model.onnx
  milenas-infer inspect resnet50.onnx --runtime ort --labels imagenet.txt")]
    Inspect(Inspect),
}

#[derive(Debug, Args)]
#[allow(missing_docs)]
pub struct Inspect {
    /// Written by milenas-export; with another --runtime than native, any classifier of images
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

#[derive(Debug, Args)]
#[allow(missing_docs)]
pub struct Bench {
    /// Written by milenas-export; with another --runtime than native, any classifier of images
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Images to measure reading, decoding and preparing with, as classify takes them; left out, made-up ones meet the
    /// network alone
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Images that are computed together
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Measured batches, after one that is not
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Threads; all cores if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub limits: ImageLimits,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

#[derive(Debug, Args)]
#[allow(missing_docs)]
pub struct Classify {
    /// Written by milenas-export; with another --runtime than native, any classifier of images
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Images, folders with all images below them, tars, patterns in quotes; - reads paths from standard input
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// A file with the paths of inputs, one a line; - is standard input
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// Paths in the list end with NUL, as `find -print0` writes them
    #[arg(short = '0', long)]
    pub null: bool,

    /// The file to write; standard output if left out
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Of the results; from the ending of FILE if left out, csv where there is none
    #[arg(long, value_name = "NAME")]
    pub format: Option<FormatArg>,
    /// The K best classes of each image
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: u32,
    /// Leave out predictions whose score is below X
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = finite)]
    pub threshold: Option<f32>,
    /// What a score is
    #[arg(long, value_name = "NAME", default_value = "probability")]
    pub score: ScoreArg,
    /// Tell the score of every class as well
    #[arg(long)]
    pub all_scores: bool,
    /// Tell the pooled features that the last layer reads, an embedding of the image
    #[arg(long)]
    pub features: bool,

    /// What becomes of an image that cannot be read
    #[arg(long, value_name = "NAME", default_value = "record")]
    pub on_error: OnError,
    /// Go on with the output of a run that was stopped: what has a row is passed over. The model and the options must be
    /// those of that run, which FILE.run has until it comes to its end
    #[arg(long, requires = "output")]
    pub resume: bool,

    /// Only part I of N of the inputs, I from 0; `auto` reads both from the environment of a Slurm job array or a
    /// Kubernetes Indexed Job
    #[arg(long, value_name = "I/N", requires = "output", value_parser = shard)]
    pub shard: Option<ShardArg>,

    /// Say at the end how long each stage took
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
#[allow(missing_docs)]
pub struct Evaluate {
    /// Written by milenas-export; with another --runtime than native, any classifier of images
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// digits, cifar10:DIR, a folder or tar of train/CLASS/* and test/CLASS/* or of CLASS/*, or a CSV file of path
    /// and label
    #[arg(value_name = "SRC")]
    pub data: String,
    /// A second model for the same classes, in the same runtime: where the two differ
    #[arg(long, value_name = "OTHER")]
    pub compare: Option<PathBuf>,
    /// Write a page with confusion matrix, calibration and the worst mistakes as pictures
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Print JSON
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
#[allow(missing_docs)]
pub struct Merge {
    /// Outputs of `classify --shard`, all of them, in any order
    #[arg(value_name = "PART", required = true)]
    pub parts: Vec<PathBuf>,
    /// Of the parts, csv or jsonl; from the ending of the first if left out
    #[arg(long, value_name = "NAME")]
    pub format: Option<FormatArg>,
    /// The file to write; standard output if left out
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What computes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Runtime")]
#[allow(missing_docs)]
pub struct RuntimeArgs {
    /// What computes the network
    #[arg(long, value_name = "NAME", default_value = "native")]
    pub runtime: RuntimeArg,
    /// ONNX Runtime's library for `ort`; ORT_DYLIB_PATH if left out, else that of Python's package onnxruntime: of the
    /// active environment, of .venv here, of python3
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// What convolutions multiply; other than float32 with the native runtime alone, on files that are not int8
    #[arg(long, value_name = "NAME", default_value = "float32")]
    pub precision: PrecisionArg,
    /// Height and width of the images, where the file takes any
    #[arg(long, value_name = "N|HxW", value_parser = size)]
    pub size: Option<[usize; 2]>,
    /// The order of the input's dimensions, where the file does not show it
    #[arg(long, value_name = "NAME")]
    pub layout: Option<LayoutArg>,
    /// The output that holds the scores of classes, where a file has several
    #[arg(long, value_name = "NAME")]
    pub output_name: Option<String>,
}

/// What is said of a file, for files that other programs wrote.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Files of other programs (what is said here goes before what the file says)")]
#[allow(missing_docs)]
pub struct RecipeArgs {
    /// A file with the name of each class: one a line, also numbered, or JSON; class_0, class_1, ... if omitted
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Mean subtracted from each channel, for pixels scaled to 0..1, or of 0..255 if a value is above 1. One value applies
    /// to all channels; ImageNet's 0.485,0.456,0.406 if omitted
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', num_args = 1, allow_negative_numbers = true)]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation that each channel is divided by, on the same scale; ImageNet's 0.229,0.224,0.225 if omitted
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', num_args = 1)]
    pub std: Option<Vec<f32>>,
    /// Resize the shorter side to N pixels and crop the centre; `stretch` to the size; or `letterbox`: the whole image
    /// with padding, black or of the colour after a colon, e.g. letterbox:114,114,114
    #[arg(long, value_name = "N|stretch|letterbox[:R,G,B]", value_parser = resize)]
    pub resize: Option<ResizeRule>,
    /// Fraction of the shorter side that the centre crop keeps; 0.875 if nothing says another
    #[arg(long, value_name = "X", value_parser = fraction, conflicts_with = "resize")]
    pub crop_fraction: Option<f64>,
    /// Filter that resizes, as Pillow's of the same name; bilinear if omitted
    #[arg(long, value_name = "NAME")]
    pub filter: Option<FilterArg>,
    /// Order of the colours in the input; rgb if omitted
    #[arg(long, value_name = "NAME")]
    pub channel_order: Option<ChannelOrderArg>,
    /// Use of the EXIF orientation of an image; apply if omitted
    #[arg(long, value_name = "NAME")]
    pub exif: Option<Exif>,
    /// Kind of scores that the file gives; decided by the file and a trial run if omitted
    #[arg(long, value_name = "NAME")]
    pub outputs_are: Option<Outputs>,
}

#[derive(Clone, Copy, Debug, Args)]
#[allow(missing_docs)]
pub struct SizeArgs {
    /// Images that are computed together
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Threads that decode; one a core if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,
    /// Threads that compute the network; one a core if omitted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

/// Sizes that an image file may ask for.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Limits of image files")]
#[allow(missing_docs)]
pub struct ImageLimits {
    /// Largest number of pixels of an image; the memory that decoding may take grows with it. 110000000 if omitted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub max_pixels: Option<u64>,
    /// Largest number of decoded bytes for each byte of a file, for images of more than 70 megapixels. 200 if omitted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub max_ratio: Option<u64>,
}
