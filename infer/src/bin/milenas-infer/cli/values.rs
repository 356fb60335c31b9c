//! Values of flags and their parsers.

use std::path::Path;

use anyhow::bail;
use clap::ValueEnum;
use milenas_infer::recipe::ResizeRule;
use milenas_infer::shard::Shard;
use milenas_infer::{answer, output, runtime};
use milenas_models::{fused, input};

/// Value of `--shard`.
#[derive(Clone, Copy, Debug)]
pub enum ShardArg {
    /// Shard given by the environment.
    Environment,
    /// Shard given as I/N.
    Named(Shard),
}

pub(super) fn shard(text: &str) -> Result<ShardArg, String> {
    if text == "auto" { Ok(ShardArg::Environment) } else { text.parse().map(ShardArg::Named) }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RuntimeArg {
    /// Kernels of this project.
    Native,
    /// ONNX Runtime, loaded from its shared library; runs any image classifier.
    Ort,
    /// tract; runs any image classifier; needs a build with the feature tract.
    Tract,
    /// candle-onnx; slow, runs simple files such as those of `milenas-export --target candle-onnx`; needs a build with
    /// the feature candle-onnx
    CandleOnnx,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PrecisionArg {
    /// float32, as the network was trained.
    Float32,
    /// bfloat16 factors with float32 sums; faster on processors with AVX512-BF16.
    Bf16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Outputs {
    /// Scores before softmax.
    Logits,
    /// Probabilities that sum to 1.
    Probabilities,
    /// Independent probabilities, e.g. sigmoids; several classes may apply to one image.
    Independent,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LayoutArg {
    /// [N, C, H, W].
    Nchw,
    /// [N, H, W, C].
    Nhwc,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FilterArg {
    Bilinear,
    Bicubic,
    Lanczos,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ChannelOrderArg {
    /// Red first.
    Rgb,
    /// Blue first, as in OpenCV and Caffe; --mean and --std are in this order too.
    Bgr,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Exif {
    /// Turn images upright.
    Apply,
    /// Use images as stored.
    Ignore,
}

pub(super) fn size(text: &str) -> Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |text: &str| text.parse().ok().filter(|n| (1..=8192).contains(n));
    let sides = side(height).zip(side(width)).map(|(height, width)| [height, width]);
    sides.ok_or_else(|| "expected pixels, e.g. 224, or height and width, e.g. 224x320; at most 8192".into())
}

pub(super) fn finite(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|x: &f32| x.is_finite()).ok_or_else(|| "expected a number".into())
}

pub(super) fn resize(text: &str) -> Result<ResizeRule, String> {
    let letterbox = text.strip_prefix("letterbox");
    match (text, text.parse(), letterbox.map(|rest| rest.strip_prefix(':').unwrap_or(rest))) {
        ("stretch", ..) => Ok(ResizeRule::Stretch),
        (_, Ok(side), _) => Ok(ResizeRule::ShorterSide { side }),
        (.., Some("")) => Ok(ResizeRule::Letterbox { fill: [0; 3] }),
        (.., Some(colour)) => {
            let values: Option<Vec<u8>> = colour.split(',').map(|x| x.trim().parse().ok()).collect();
            let fill = values.and_then(|values| match values[..] {
                [gray] => Some([gray; 3]),
                [r, g, b] => Some([r, g, b]),
                _ => None,
            });
            let fill = fill.ok_or("expected a colour of 0 to 255, e.g. letterbox:114,114,114")?;
            Ok(ResizeRule::Letterbox { fill })
        }
        _ => Err("expected pixels, stretch or letterbox".into()),
    }
}

pub(super) fn fraction(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| (0.1..=1.0).contains(x)).ok_or_else(|| "expected 0.1 to 1".into())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// Columns path,label,index,score, then label_2,index_2,score_2 and so on, then error.
    Csv,
    /// Objects {"path", "predictions": [{"label", "index", "score"}], "error"}, one per line.
    Jsonl,
    /// Columns of csv; needs a build with the feature `parquet`; not with --resume or --shard.
    Parquet,
    /// Text for reading, without quoting.
    Text,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ScoreArg {
    /// Softmax over all classes.
    Probability,
    /// Output of the network before softmax.
    Logit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// Write a row with the reason.
    Record,
    /// Write no row; print the reason to standard error.
    Skip,
    /// End the run.
    Fail,
}

impl From<RuntimeArg> for runtime::RuntimeKind {
    fn from(kind: RuntimeArg) -> Self {
        match kind {
            RuntimeArg::Native => runtime::RuntimeKind::Native,
            RuntimeArg::Ort => runtime::RuntimeKind::Ort,
            RuntimeArg::Tract => runtime::RuntimeKind::Tract,
            RuntimeArg::CandleOnnx => runtime::RuntimeKind::CandleOnnx,
        }
    }
}

impl From<PrecisionArg> for fused::Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::Float32 => fused::Precision::Float32,
            PrecisionArg::Bf16 => fused::Precision::Bf16,
        }
    }
}

impl From<Outputs> for answer::OutputMeaning {
    fn from(outputs: Outputs) -> Self {
        match outputs {
            Outputs::Logits => answer::OutputMeaning::Logits,
            Outputs::Probabilities => answer::OutputMeaning::Probabilities,
            Outputs::Independent => answer::OutputMeaning::Independent,
        }
    }
}

impl From<LayoutArg> for milenas_export::onnx::ImageLayout {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::Nchw => milenas_export::onnx::ImageLayout::Nchw,
            LayoutArg::Nhwc => milenas_export::onnx::ImageLayout::Nhwc,
        }
    }
}

impl From<FilterArg> for input::Filter {
    fn from(filter: FilterArg) -> Self {
        match filter {
            FilterArg::Bilinear => input::Filter::Bilinear,
            FilterArg::Bicubic => input::Filter::Bicubic,
            FilterArg::Lanczos => input::Filter::Lanczos,
        }
    }
}

impl From<ChannelOrderArg> for input::ChannelOrder {
    fn from(order: ChannelOrderArg) -> Self {
        match order {
            ChannelOrderArg::Rgb => input::ChannelOrder::Rgb,
            ChannelOrderArg::Bgr => input::ChannelOrder::Bgr,
        }
    }
}

impl From<Exif> for input::ExifOrientation {
    fn from(exif: Exif) -> Self {
        match exif {
            Exif::Apply => input::ExifOrientation::Apply,
            Exif::Ignore => input::ExifOrientation::Ignore,
        }
    }
}

impl From<FormatArg> for output::RowFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Csv => output::RowFormat::Csv,
            FormatArg::Jsonl => output::RowFormat::Jsonl,
            FormatArg::Parquet => output::RowFormat::Parquet,
            FormatArg::Text => output::RowFormat::Text,
        }
    }
}

impl From<ScoreArg> for answer::Score {
    fn from(score: ScoreArg) -> Self {
        match score {
            ScoreArg::Probability => answer::Score::Probability,
            ScoreArg::Logit => answer::Score::Logit,
        }
    }
}

/// Returns the requested format; without one, the format of the file's extension, e.g. `.csv`. The default is
/// CSV.
///
/// # Errors
/// Returns an error if no format has the extension.
pub fn format_of(asked: Option<FormatArg>, file: Option<&Path>) -> anyhow::Result<output::RowFormat> {
    if let Some(format) = asked {
        return Ok(format.into());
    }
    let Some((file, ending)) = file.and_then(|file| Some((file, file.extension()?))) else {
        return Ok(output::RowFormat::Csv);
    };
    match ending.to_ascii_lowercase().to_str() {
        Some("csv") => Ok(output::RowFormat::Csv),
        Some("jsonl" | "ndjson") => Ok(output::RowFormat::Jsonl),
        Some("parquet") => Ok(output::RowFormat::Parquet),
        Some("txt") => Ok(output::RowFormat::Text),
        _ => bail!(
            "{}: unknown file extension for results, expected .csv, .jsonl, .parquet or .txt. help: choose the format with \
             --format",
            file.display()
        ),
    }
}
