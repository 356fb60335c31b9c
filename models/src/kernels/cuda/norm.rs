//! BatchNorm of feature maps `[map][channel][length]`.
//!
//! A term is a use of a feature map: its source, the node it is added to, and a weight. Without tables, source and
//! target have the index of the term.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use super::parts::{LEAST, part_sums, parts};
use crate::Result;

/// Mean and biased variance of feature maps.
#[derive(Clone, Copy, Debug)]
pub struct CudaMoments {
    /// Mean, `[map][channel]`.
    pub mean: Words,
    /// Biased variance, `[map][channel]`.
    pub variance: Words,
}

/// Scale and shift of feature maps or of terms.
#[derive(Clone, Copy, Debug)]
pub struct CudaScaling {
    /// Scale, `[map][channel]` or `[term][channel]`.
    pub scale: Words,
    /// Shift, like the scale.
    pub shift: Words,
}

impl CudaScaling {
    /// No memory.
    pub const NONE: CudaScaling = CudaScaling { scale: Words::NONE, shift: Words::NONE };

    /// Allocates `len` elements for the scale, and as many for the shift.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn alloc(device: &mut dyn Device, len: usize) -> Result<CudaScaling> {
        Ok(CudaScaling { scale: device.alloc(len)?, shift: device.alloc(len)? })
    }
}

/// Factor of a normalised feature map.
#[derive(Clone, Copy, Debug)]
pub enum Weight {
    /// The constant 1.
    One,
    /// A factor per term, `[term]`.
    OfTerm(Words),
    /// A factor per channel, `[channel]`.
    OfChannel(Words),
}

/// Uses of feature maps.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Number of terms.
    pub count: usize,
    /// Channels of each feature map.
    pub channels: usize,
    /// Index of each term's feature map, negative for one that is not normalised. If empty, it is the index of the
    /// term.
    pub source: Words,
    /// Index of the feature map that each term is added to. If empty, it is the index of the term.
    pub target: Words,
    /// Factor of the terms.
    pub weight: Weight,
}

/// Feature maps that terms use.
#[derive(Clone, Copy, Debug)]
pub struct TermMaps {
    /// Feature maps of the sources, `[map][channel][length]`.
    pub z: Words,
    /// Feature map of the terms with a negative source, `[channel][length]`; empty if there are none.
    pub x: Words,
}

/// Coefficients of the gradient of BatchNorm for each term and channel, all `[term][channel]`.
#[derive(Clone, Copy, Debug)]
pub struct NormCoefficients {
    /// Sum of the output's gradient.
    pub sum: Words,
    /// Coefficients a, b and c: the gradient of a feature map is `a * gradient + b * map + c`.
    pub abc: [Words; 3],
    /// Gradient of the weight, one summand per channel.
    pub reach: Words,
}

impl Terms {
    /// Returns terms that use every feature map once, with weight 1.
    pub fn plain(count: usize, channels: usize) -> Terms {
        Terms { count, channels, source: Words::NONE, target: Words::NONE, weight: Weight::One }
    }

    fn len(&self) -> usize {
        self.count * self.channels
    }

    /// Returns the argument for the sources of the terms, with `length` elements per channel.
    fn of_maps(&self, words: Words, length: usize) -> Result<Arg> {
        if self.source.is_empty() { words.holds(self.len() * length) } else { Ok(Arg::Read(words)) }
    }

    fn source(&self) -> Result<Arg> {
        self.source.may_hold(self.count)
    }

    /// Returns the weights, and the steps between those of neighbouring terms and of neighbouring channels.
    fn weight(&self) -> Result<[Arg; 3]> {
        Ok(match self.weight {
            Weight::One => [Arg::Read(Words::NONE), Arg::Int(0), Arg::Int(0)],
            Weight::OfTerm(words) => [words.holds(self.count)?, Arg::Int(1), Arg::Int(0)],
            Weight::OfChannel(words) => [words.holds(self.channels)?, Arg::Int(0), Arg::Int(1)],
        })
    }

    /// Computes `out`, the scale and shift of each term, which combine weight and BatchNorm. `bias` is `[channel]` or
    /// empty.
    pub fn scaling(
        &self,
        device: &mut dyn Device,
        moments: CudaMoments,
        bias: Words,
        out: CudaScaling,
    ) -> Result<()> {
        let [weight, by_term, by_channel] = self.weight()?;
        let args = [
            self.of_maps(moments.mean, 1)?,
            self.of_maps(moments.variance, 1)?,
            self.source()?,
            weight,
            by_term,
            by_channel,
            bias.may_hold(self.channels)?,
            out.scale.written(self.len())?,
            out.shift.written(self.len())?,
            int(self.count),
            int(self.channels),
        ];
        launch(device, "scaling", LaunchGrid::Each(self.len()), &args)
    }

    /// Computes all fields of `slopes`. Inputs are the gradients of the targets, the feature maps and the moments.
    pub fn coefficients(
        &self,
        device: &mut dyn Device,
        gradient: Words,
        maps: TermMaps,
        length: usize,
        moments: CudaMoments,
        slopes: &NormCoefficients,
    ) -> Result<()> {
        let len = self.len();
        let parts = parts(len, length, LEAST);
        let [sums, tickets] = part_sums(device, len, parts, 2)?;
        let ([weight, by_term, by_channel], [a, b, c]) = (self.weight()?, slopes.abc);
        let args = [
            if self.target.is_empty() { gradient.holds(len * length)? } else { Arg::Read(gradient) },
            self.of_maps(maps.z, length)?,
            Arg::Read(maps.x),
            self.of_maps(moments.mean, 1)?,
            self.of_maps(moments.variance, 1)?,
            self.source()?,
            self.target.may_hold(self.count)?,
            weight,
            by_term,
            by_channel,
            slopes.sum.written(len)?,
            a.written(len)?,
            b.written(len)?,
            c.written(len)?,
            slopes.reach.written(len)?,
            sums,
            tickets,
            int(self.count),
            int(self.channels),
            int(length),
            int(parts),
        ];
        launch(device, "slopes", LaunchGrid::Rows(len * parts), &args)
    }
}

/// Computes mean and biased variance of each row of `length` values.
pub fn moments(
    device: &mut dyn Device,
    x: Words,
    moments: CudaMoments,
    rows: usize,
    length: usize,
) -> Result<()> {
    let parts = parts(rows, length, LEAST);
    let [sums, tickets] = part_sums(device, rows, parts, 2)?;
    let args = [
        x.holds(rows * length)?,
        moments.mean.written(rows)?,
        moments.variance.written(rows)?,
        sums,
        tickets,
        int(rows),
        int(length),
        int(parts),
    ];
    launch(device, "moments", LaunchGrid::Rows(rows * parts), &args)
}

/// Computes `y = x * scale + shift` by row, followed by ReLU if `relu`; `y` may be `x`.
pub fn normalise(
    device: &mut dyn Device,
    x: Words,
    by: CudaScaling,
    y: Words,
    rows: usize,
    length: usize,
    relu: bool,
) -> Result<()> {
    let count = rows * length;
    let args = [
        x.holds(count)?,
        by.scale.holds(rows)?,
        by.shift.holds(rows)?,
        y.written(count)?,
        int(rows),
        int(length),
        Arg::Int(i32::from(relu)),
    ];
    launch(device, "normalise", LaunchGrid::Each(count), &args)
}
