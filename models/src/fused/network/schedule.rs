//! Schedule of evaluation: the steps of one image. Norms are folded into weights, and sums into the convolutions that
//! compute their terms. ReLU and padding are applied by the step that writes a feature map. The input of pointwise
//! convolutions is stored after ReLU, in the format of their operands.
//!
//! Every image has a thread, so the output of a step is in the thread's cache when the next step reads it. With fewer
//! images than threads, the threads share the rows of each convolution.

mod buffers;
mod build;
mod check;
mod print;
mod run;
mod wanted;

use std::sync::Mutex;

use crate::kernels::cpu::{Channels, MapSize, Pack};

use super::super::head::Head;
use super::super::unit::Im2col;
use buffers::{BufferSize, Id};
use run::ImageMaps;

/// Format of the operands of pointwise and dense convolutions. All other values are float32: sums, other feature
/// maps, depthwise convolutions, stem and linear layer.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// float32.
    #[default]
    Float32,
    /// bfloat16, with both operands rounded to nearest, ties to even. Processors with AVX512-BF16 multiply pairs of
    /// bfloat16; others multiply the rounded values in float32.
    Bf16,
}

impl Precision {
    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Float32 => "float32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// Storage format of the operands of a convolution.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum FactorStorage {
    /// float32.
    #[default]
    Single,
    /// float32, rounded to bfloat16 values.
    Rounded,
    /// Pairs of bfloat16.
    Pairs,
}

/// Steps of the evaluation of one image, and their buffers. Its text has a line for each step.
#[derive(Default)]
pub struct Schedule {
    /// Format of all operands except the stem's.
    form: FactorStorage,
    buffers: Vec<BufferSize>,
    steps: Vec<EvalStep>,
    /// Parts of the head's input.
    last: Vec<Id>,
    /// Buffers and heads, one pair per image that was processed at the same time.
    workers: Mutex<Vec<(ImageMaps, Head)>>,
}

enum EvalStep {
    Layer(Box<ConvLayer>),
    Pool(EvalPool),
    Sum(EvalSum),
    /// Applies ReLU to a feature map and adds padding.
    Pad {
        source: Id,
        out: Id,
    },
    /// Applies ReLU to a feature map and stores it as operands.
    Relu {
        source: Id,
        out: FactorBuffer,
    },
}

/// A convolution, with its norm and its destinations.
struct ConvLayer {
    /// Name of its weight.
    name: String,
    form: FactorStorage,
    /// Operation that computes the columns; `None` for the patches of the stem.
    columns: Option<Im2col>,
    /// The columns, if an earlier step stored them as operands.
    ready: Option<FactorBuffer>,
    /// If not, the parts of the feature map from which the columns are computed.
    source: Vec<Id>,
    /// Size of the whole input.
    input: MapSize,
    output: MapSize,
    /// Channels of the columns, and of the output.
    channels: [Channels; 2],
    /// Weight in the format `form`, multiplied by the norm's factor.
    weight: Vec<Pack>,
    /// Bias, `[block]`.
    bias: Vec<Pack>,
    start: SumStart,
    plain: Option<Id>,
    padded: Option<Id>,
    factors: Option<FactorBuffer>,
}

/// A feature map after ReLU, as operands of pointwise convolutions. Its buffer also has the other parts of its
/// concatenation.
#[derive(Copy, Clone)]
struct FactorBuffer {
    buffer: Id,
    /// Packs per pixel before those of this feature map.
    before: usize,
}

/// Values that a convolution is added to.
#[derive(Copy, Clone, PartialEq, Eq)]
enum SumStart {
    Zero,
    /// The values in its destination.
    Plain,
    Map(Id),
}

struct EvalPool {
    maximum: bool,
    stride: usize,
    map: MapSize,
    source: Id,
    out: Id,
}

/// Computes `bias + sum of scale * map`.
struct EvalSum {
    terms: Vec<EvalTerm>,
    bias: Vec<Pack>,
    map: MapSize,
    out: Id,
}

struct EvalTerm {
    /// Concatenated parts of the feature map.
    parts: Vec<Id>,
    /// Factor of each channel, `[block]`.
    scale: Vec<Pack>,
}

impl FactorStorage {
    /// Number of channel blocks that share a pack.
    fn share(self) -> usize {
        if self == FactorStorage::Pairs { 2 } else { 1 }
    }

    /// Whether the step that writes a state also stores it as operands, for columns that need only ReLU. Rounded
    /// operands are computed strip by strip instead.
    fn ready(self, columns: Im2col) -> bool {
        matches!(columns, Im2col::AfterRelu) && self != FactorStorage::Rounded
    }
}
