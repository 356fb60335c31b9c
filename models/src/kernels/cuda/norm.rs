//! BatchNorm of maps `[map][channel][length]`.
//!
//! A term is a use of a map: its source, the node it adds to, and a weight. Without tables, term, source and target have one number.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use super::parts::{LEAST, part_sums, parts};
use crate::Result;

/// Mean and biased variance, `[map][channel]`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct CudaMoments {
    pub mean: Words,
    pub variance: Words,
}

/// By what a normalised map is multiplied.
#[derive(Clone, Copy, Debug)]
pub enum Weight {
    /// 1.
    One,
    /// `[term]`
    OfTerm(Words),
    /// `[channel]`
    OfChannel(Words),
}

/// Uses of maps.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How many.
    pub count: usize,
    /// Channels of each map.
    pub channels: usize,
    /// Of each, the number of its map, negative for one that is not normalised; or none at all.
    pub source: Words,
    /// Of each, the number of the map that it adds to; or none at all.
    pub target: Words,
    /// By what they are multiplied.
    pub weight: Weight,
}

/// What BatchNorm's gradient needs of each term and channel, and what it finds; each `[term][channel]`.
#[derive(Clone, Copy, Debug)]
pub struct NormCoefficients {
    /// The sum of the gradient.
    pub sum: Words,
    /// The gradient of a map is `a * gradient + b * map + c`.
    pub abc: [Words; 3],
    /// By channel, the gradient of the weight.
    pub reach: Words,
}

impl Terms {
    /// Every map once, of no other weight.
    pub fn plain(count: usize, channels: usize) -> Terms {
        Terms { count, channels, source: Words::NONE, target: Words::NONE, weight: Weight::One }
    }

    fn len(&self) -> usize {
        self.count * self.channels
    }

    /// Of the maps that terms number, each of so many words a channel.
    fn of_maps(&self, words: Words, length: usize) -> Result<Arg> {
        if self.source.is_empty() { words.holds(self.len() * length) } else { Ok(Arg::Read(words)) }
    }

    fn source(&self) -> Result<Arg> {
        self.source.may_hold(self.count)
    }

    /// Words, and steps by term and by channel.
    fn weight(&self) -> Result<[Arg; 3]> {
        Ok(match self.weight {
            Weight::One => [Arg::Read(Words::NONE), Arg::Int(0), Arg::Int(0)],
            Weight::OfTerm(words) => [words.holds(self.count)?, Arg::Int(1), Arg::Int(0)],
            Weight::OfChannel(words) => [words.holds(self.channels)?, Arg::Int(0), Arg::Int(1)],
        })
    }

    /// The scale and shift that are weight and BatchNorm in one, `[term][channel]`; `bias` `[channel]` or none at all.
    pub fn scaling(
        &self,
        device: &mut dyn Device,
        moments: CudaMoments,
        bias: Words,
        [scale, shift]: [Words; 2],
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
            scale.written(self.len())?,
            shift.written(self.len())?,
            int(self.count),
            int(self.channels),
        ];
        launch(device, "scaling", LaunchGrid::Each(self.len()), &args)
    }

    /// Everything of `slopes`, from the gradients of the targets, the maps, the one that is not normalised, and their moments.
    pub fn coefficients(
        &self,
        device: &mut dyn Device,
        gradient: Words,
        [z, x]: [Words; 2],
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
            self.of_maps(z, length)?,
            Arg::Read(x),
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

/// Of each row of `length` values.
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

/// `y = x * scale + shift` by row, and its positive part where `rectify`; `y` may be `x`.
pub fn normalise(
    device: &mut dyn Device,
    x: Words,
    [scale, shift]: [Words; 2],
    y: Words,
    [rows, length]: [usize; 2],
    rectify: bool,
) -> Result<()> {
    let count = rows * length;
    let args = [
        x.holds(count)?,
        scale.holds(rows)?,
        shift.holds(rows)?,
        y.written(count)?,
        int(rows),
        int(length),
        Arg::Int(i32::from(rectify)),
    ];
    launch(device, "normalise", LaunchGrid::Each(count), &args)
}
