//! Candidate operations of a cell. Each is defined once, by `emit`, which adds it to a graph.

use serde::{Deserialize, Serialize};

use crate::blocks;
use crate::graph::{Builder, Value};
use crate::op::{BatchNorm, Identity, Pool2d, PoolKind, Zero};
use crate::{Error, Result};

/// A candidate operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Primitive {
    /// Zeros: no connection.
    None,
    /// 3x3 max pooling.
    MaxPool3x3,
    /// 3x3 average pooling.
    AvgPool3x3,
    /// Identity, or FactorizedReduce at stride 2.
    SkipConnect,
    /// Separable 3x3 convolution, applied twice.
    SepConv3x3,
    /// Separable 5x5 convolution, applied twice.
    SepConv5x5,
    /// Separable 3x3 convolution with dilation 2.
    DilConv3x3,
    /// Separable 5x5 convolution with dilation 2.
    DilConv5x5,
    /// Separable 7x7 convolution, applied twice; only in the published NASNet and AmoebaNet.
    SepConv7x7,
    /// A 1x7 and a 7x1 convolution; only in the published NASNet and AmoebaNet.
    Conv7x1_1x7,
    /// ReLU, 1x1 convolution and BatchNorm; only in NAS-Bench-201.
    NorConv1x1,
    /// ReLU, 3x3 convolution and BatchNorm; only in NAS-Bench-201.
    NorConv3x3,
}

use Primitive::*;

/// Variant of a primitive, in a supernet or in a derived network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// BatchNorm without weight and bias, also after pools (DARTS, section 2.3: mixtures must be comparable).
    Supernet,
    /// BatchNorm with weight and bias, none after pools.
    Derived,
}

impl Style {
    pub(crate) fn affine(self) -> bool {
        self == Style::Derived
    }
}

impl Primitive {
    /// All primitives.
    pub const ALL: [Primitive; 12] = [
        None,
        MaxPool3x3,
        AvgPool3x3,
        SkipConnect,
        SepConv3x3,
        SepConv5x5,
        DilConv3x3,
        DilConv5x5,
        SepConv7x7,
        Conv7x1_1x7,
        NorConv1x1,
        NorConv3x3,
    ];

    /// Candidates of the DARTS space, in the order of the columns of alpha.
    pub const DARTS: [Primitive; 8] =
        [None, MaxPool3x3, AvgPool3x3, SkipConnect, SepConv3x3, SepConv5x5, DilConv3x3, DilConv5x5];

    /// Candidates of NAS-Bench-201, in its order.
    pub const NASBENCH201: [Primitive; 5] = [None, SkipConnect, NorConv1x1, NorConv3x3, AvgPool3x3];

    /// Returns the published name.
    pub fn name(self) -> &'static str {
        match self {
            None => "none",
            MaxPool3x3 => "max_pool_3x3",
            AvgPool3x3 => "avg_pool_3x3",
            SkipConnect => "skip_connect",
            SepConv3x3 => "sep_conv_3x3",
            SepConv5x5 => "sep_conv_5x5",
            DilConv3x3 => "dil_conv_3x3",
            DilConv5x5 => "dil_conv_5x5",
            SepConv7x7 => "sep_conv_7x7",
            Conv7x1_1x7 => "conv_7x1_1x7",
            NorConv1x1 => "nor_conv_1x1",
            NorConv3x3 => "nor_conv_3x3",
        }
    }

    /// Returns the primitive with a published name.
    ///
    /// # Errors
    /// [`Error::Unknown`] for an unknown name.
    pub fn parse(name: &str) -> Result<Self> {
        let known = Self::ALL.map(Self::name);
        Self::ALL
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| Error::unknown("primitive", name, known))
    }

    /// Whether the primitive counts as a convolution in MiLeNAS' model size.
    pub fn is_convolution(self) -> bool {
        match self {
            None | MaxPool3x3 | AvgPool3x3 | SkipConnect => false,
            SepConv3x3 | SepConv5x5 | DilConv3x3 | DilConv5x5 | SepConv7x7 | Conv7x1_1x7 | NorConv1x1
            | NorConv3x3 => true,
        }
    }

    /// Adds the primitive to the builder's scope:
    /// `[N, channels, H, W] -> [N, channels, ceil(H/stride), ceil(W/stride)]`.
    pub fn emit(
        self,
        b: &mut Builder,
        x: Value,
        channels: usize,
        stride: usize,
        style: Style,
    ) -> Result<Value> {
        let affine = style.affine();
        let separable = |b: &mut Builder, kernel| {
            let x = blocks::depthwise(b, 0, x, kernel, stride, 1, affine)?;
            blocks::depthwise(b, 4, x, kernel, 1, 1, affine)
        };
        match self {
            None => b.wire("", Zero { stride }, &[x]),
            MaxPool3x3 => pool(b, x, PoolKind::Max, channels, stride, style),
            AvgPool3x3 => pool(b, x, PoolKind::Average { count_padding: false }, channels, stride, style),
            SkipConnect if stride == 1 => b.wire("", Identity, &[x]),
            SkipConnect => blocks::factorized_reduce(b, x, channels, affine),
            SepConv3x3 => separable(b, 3),
            SepConv5x5 => separable(b, 5),
            SepConv7x7 => separable(b, 7),
            DilConv3x3 => blocks::depthwise(b, 0, x, 3, stride, 2, affine),
            DilConv5x5 => blocks::depthwise(b, 0, x, 5, stride, 2, affine),
            Conv7x1_1x7 => blocks::asymmetric(b, x, channels, 7, stride, affine),
            NorConv1x1 => blocks::relu_conv_bn(b, x, channels, 1, stride, affine),
            NorConv3x3 => blocks::relu_conv_bn(b, x, channels, 3, stride, affine),
        }
    }
}

fn pool(
    b: &mut Builder,
    x: Value,
    kind: PoolKind,
    channels: usize,
    stride: usize,
    style: Style,
) -> Result<Value> {
    let pool = Pool2d::new(kind, 3, stride);
    match style {
        Style::Derived => b.wire("", pool, &[x]),
        Style::Supernet => {
            let x = b.wire("0", pool, &[x])?;
            b.wire("1", BatchNorm::new(channels, false), &[x])
        }
    }
}

impl From<Primitive> for String {
    fn from(primitive: Primitive) -> String {
        primitive.name().into()
    }
}

impl TryFrom<String> for Primitive {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::parse(&name)
    }
}
