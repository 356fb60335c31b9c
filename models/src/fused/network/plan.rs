//! Evaluation: the steps of one image, with norms folded into weights, sums into the convolutions that make their terms, and
//! rectifying and padding into whatever writes the map. What pointwise convolutions read is left rectified, in the form that they
//! multiply.
//!
//! Every image has a thread, so that what one step writes is in the thread's cache when the next reads it. Where there are fewer
//! images than threads, the threads share the rows of each convolution.

mod buffers;
mod build;
mod run;
mod wanted;

use std::sync::Mutex;

use crate::kernels::cpu::{Channels, MapSize, Pack};

use super::super::head::Head;
use super::super::unit::Im2col;
use buffers::{EvalBuffer, Id};
use run::ImageMaps;

/// What pointwise and dense convolutions multiply. All else is float32: sums, other maps, depthwise convolutions, stem, linear layer.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// float32.
    #[default]
    Float32,
    /// bfloat16, both factors rounded to nearest, ties to even. Processors that multiply such pairs (AVX512-BF16) do; others multiply the
    /// rounded numbers in float32.
    Bf16,
}

impl Precision {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Float32 => "float32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// How the factors of a convolution are stored.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum FactorStorage {
    /// float32.
    #[default]
    Single,
    /// float32 that are bfloat16.
    Rounded,
    /// Pairs of bfloat16.
    Pairs,
}

/// The steps, and what they need of an image.
#[derive(Default)]
pub(super) struct EvalPlan {
    /// Of all factors but the stem's.
    form: FactorStorage,
    rooms: Vec<EvalBuffer>,
    steps: Vec<EvalStep>,
    /// The parts of the map that the head reads.
    last: Vec<Id>,
    /// For as many images at a time as there were.
    workers: Mutex<Vec<(ImageMaps, Head)>>,
}

enum EvalStep {
    Layer(Box<ConvLayer>),
    Pool(EvalPool),
    Sum(EvalSum),
    /// A map, rectified and padded.
    Pad {
        source: Id,
        out: Id,
    },
    /// A map, rectified, as factors.
    Rectify {
        source: Id,
        out: FactorBuffer,
    },
}

/// A convolution and what follows it.
struct ConvLayer {
    form: FactorStorage,
    /// What makes the columns; `None` are the patches of the stem.
    columns: Option<Im2col>,
    /// The columns, if they were left as factors.
    ready: Option<FactorBuffer>,
    /// Else the parts of the map that the columns are made of.
    source: Vec<Id>,
    /// Of all parts.
    input: MapSize,
    output: MapSize,
    /// Channels of the columns, and of the output.
    channels: [Channels; 2],
    /// As `form` says, with the norm.
    weight: Vec<Pack>,
    /// `[block]`
    bias: Vec<Pack>,
    start: SumStart,
    plain: Option<Id>,
    padded: Option<Id>,
    factors: Option<FactorBuffer>,
}

/// A rectified map as pointwise convolutions multiply it, in a room with those that it is joined with.
#[derive(Copy, Clone)]
struct FactorBuffer {
    room: Id,
    /// Packs of a pixel before the map's.
    before: usize,
}

/// What a convolution is added to.
#[derive(Copy, Clone, PartialEq, Eq)]
enum SumStart {
    Zero,
    /// What is where it goes.
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

/// `bias + sum of scale * map`
struct EvalSum {
    terms: Vec<EvalTerm>,
    bias: Vec<Pack>,
    map: MapSize,
    out: Id,
}

struct EvalTerm {
    /// Side by side.
    parts: Vec<Id>,
    /// `[block]`
    scale: Vec<Pack>,
}

impl FactorStorage {
    /// Blocks that share a pack.
    fn share(self) -> usize {
        if self == FactorStorage::Pairs { 2 } else { 1 }
    }

    /// Whether columns that are only rectified are left as factors by what makes the states; rounded ones are made strip by strip.
    fn ready(self, columns: Im2col) -> bool {
        matches!(columns, Im2col::Rectified) && self != FactorStorage::Rounded
    }
}
