//! A convolution in two parts, as all of this network's are: something cheap that makes columns of a pixel
//! (depthwise taps, rectified pixels, even and odd pixels), then a pointwise convolution.
//!
//! The columns exist for a strip of pixels at a time, in the nearest cache.

use core::ops::Range;

use crate::kernels::cpu::depthwise::{self, DepthwiseShape};
use crate::kernels::cpu::elementwise::{Gate, ScaledMap, WeightedSum};
use crate::kernels::cpu::norm::NormCoefficient;
use crate::kernels::cpu::pointwise::{PointwiseForward, PointwiseWeightGradient};
use crate::kernels::cpu::simd::{floats, floats_mut};
use crate::kernels::cpu::strip::{self, Strip};
use crate::kernels::cpu::{HALO, LANES, Level, MapSize, Pack, elementwise, parity, taps};

use super::parameters::{Id, Parameters};
use super::scratch::Scratch;

/// What makes the columns.
#[derive(Copy, Clone, Debug)]
pub enum Im2col {
    /// Taps of a padded, rectified map, by this weight.
    Depthwise(DepthwiseShape, Id),
    /// The rectified pixels of a plain map.
    Rectified,
    /// The rectified even, then odd pixels of a plain map.
    Parity,
    /// The rectified taps of a 3x3 window of a plain map, with a border of zeros.
    Taps {
        /// Rows and columns from one window to the next.
        stride: usize,
    },
    /// The means of 2x2 windows of a plain map.
    Halves,
}

impl Im2col {
    /// Whether the input is rectified before anything else.
    pub fn rectifies(self) -> bool {
        !matches!(self, Im2col::Halves)
    }

    /// Rows and columns of the input from one pixel of the output to the next.
    pub fn stride(self) -> usize {
        match self {
            Im2col::Depthwise(shape, _) => shape.stride,
            Im2col::Rectified => 1,
            Im2col::Parity | Im2col::Halves => 2,
            Im2col::Taps { stride } => stride,
        }
    }
}

/// A convolution.
#[derive(Copy, Clone, Debug)]
pub struct ConvBlock {
    /// What makes the columns.
    pub columns: Im2col,
    /// The weight on the columns.
    pub pointwise: Id,
    /// The input of one image.
    pub input: MapSize,
    /// The output of one image.
    pub output: MapSize,
}

/// Packs of columns made at a time.
const STRIP: usize = 128;
/// The same of taps, whose weights are too many for the nearest cache to hold both.
const TAPS: usize = 1024;

impl ConvBlock {
    /// For maps of this size.
    pub fn resize(&mut self, input: MapSize) {
        let stride = self.columns.stride();
        self.input = input;
        self.output = MapSize { packs: self.output.packs, ..input.strided(stride) };
    }

    /// Packs of a pixel's column.
    pub fn inputs(&self) -> usize {
        match self.columns {
            Im2col::Parity => 2 * self.input.packs,
            Im2col::Taps { .. } => taps::SIDE * taps::SIDE * self.input.packs,
            _ => self.input.packs,
        }
    }

    /// The parameters, in the order of their gradients.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        let depthwise = match self.columns {
            Im2col::Depthwise(_, id) => Some(id),
            _ => None,
        };
        depthwise.into_iter().chain([self.pointwise])
    }

    fn strips(&self) -> impl Iterator<Item = Range<usize>> {
        let height = self.output.height;
        let strip = if matches!(self.columns, Im2col::Taps { .. }) { TAPS } else { STRIP };
        let rows = (strip / (self.inputs() * self.output.width)).max(1);
        (0..height).step_by(rows).map(move |y| y..(y + rows).min(height))
    }

    fn columns(
        &self,
        level: Level,
        parameters: &Parameters,
        source: &[Pack],
        rows: Range<usize>,
        out: &mut [Pack],
    ) {
        let (blocks, each) = (self.input.packs, usize::MAX);
        let part = InputBlocks { map: self.input, source, before: 0, blocks, each, last: LANES };
        part.columns(self.columns, level, parameters, rows, false, out);
    }

    /// The output of one image, with its `[2][block]` sums added to `sums`.
    pub fn forward(
        &self,
        level: Level,
        parameters: &Parameters,
        source: &[Pack],
        strip: &mut Vec<Pack>,
        out: &mut [Pack],
        sums: &mut [Pack],
    ) {
        let (plane, [inputs, outputs]) = (self.output.pixels(), parameters.channels(self.pointwise));
        for rows in self.strips() {
            let (first, width) = (rows.start * self.output.width, rows.len() * self.output.width);
            strip.resize(inputs.packs() * width, Pack::ZERO);
            self.columns(level, parameters, source, rows, strip);
            let (sum, square) = sums[..2 * outputs.packs()].split_at_mut(outputs.packs());
            level.run(PointwiseForward {
                inputs,
                outputs,
                rows: 1,
                width,
                source: strip,
                source_plane: width,
                weight: parameters.kernel(self.pointwise),
                out: &mut out[first..],
                out_plane: plane,
                out_step: width,
                sums: Some([sum, square]),
            });
        }
    }

    /// Adds the gradient of the pointwise weight for the output gradient `dy`.
    fn pointwise_gradient(
        &self,
        level: Level,
        parameters: &Parameters,
        source: &[Pack],
        dy: &[Pack],
        strip: &mut Vec<Pack>,
        out: &mut [Pack],
    ) {
        let (plane, [inputs, outputs]) = (self.output.pixels(), parameters.channels(self.pointwise));
        for rows in self.strips() {
            let (first, pixels) = (rows.start * self.output.width, rows.len() * self.output.width);
            strip.resize(inputs.packs() * pixels, Pack::ZERO);
            self.columns(level, parameters, source, rows, strip);
            level.run(PointwiseWeightGradient {
                inputs,
                outputs,
                pixels,
                source: strip,
                source_plane: pixels,
                gradient: &dy[first..],
                gradient_plane: plane,
                out,
            });
        }
    }

    /// From the output gradient in `scratch.dy`, the gradient of the columns: padded in `scratch.dz` for a depthwise
    /// convolution, else plain in `scratch.columns`. Adds the gradients of the weights to the front of
    /// `gradients`, if there, and moves it past them.
    pub fn backward(
        &self,
        level: Level,
        parameters: &Parameters,
        source: &[Pack],
        scratch: &mut Scratch,
        gradients: &mut Option<&mut [Pack]>,
    ) {
        let (map, [inputs, outputs]) = (self.output, parameters.channels(self.pointwise));
        if let Im2col::Taps { .. } = self.columns {
            // The gradient of the columns, nine times a map, exists strip by strip in `backward_columns`.
            if let Some(rest) = gradients.take() {
                let (out, after) = rest.split_at_mut(parameters.values[self.pointwise].len());
                self.pointwise_gradient(level, parameters, source, &scratch.dy, &mut scratch.strip, out);
                *gradients = Some(after);
            }
            return;
        }
        let padded = matches!(self.columns, Im2col::Depthwise(..));
        let Scratch { dy, dz, columns, strip, .. } = scratch;
        let columns_map = MapSize { packs: inputs.packs(), ..map };
        let (out, step) = if padded {
            (&mut dz.of(columns_map)[HALO..], map.padded_width())
        } else {
            columns.resize(columns_map.len(), Pack::ZERO);
            (&mut columns[..], map.width)
        };
        level.run(PointwiseForward {
            inputs: outputs,
            outputs: inputs,
            rows: map.height,
            width: map.width,
            source: dy,
            source_plane: map.pixels(),
            weight: &parameters.transposed[self.pointwise],
            out,
            out_plane: map.height * step,
            out_step: step,
            sums: None,
        });
        let Some(rest) = gradients.take() else { return };
        let mut rest = rest;
        if let Im2col::Depthwise(shape, id) = self.columns {
            let (out, after) = rest.split_at_mut(parameters.values[id].len());
            let gradient = dz.of(columns_map);
            level.run(depthwise::DepthwiseWeightGradient { shape, map: self.input, source, gradient, out });
            rest = after;
        }
        let (out, after) = rest.split_at_mut(parameters.values[self.pointwise].len());
        self.pointwise_gradient(level, parameters, source, dy, strip, out);
        *gradients = Some(after);
    }

    /// From the gradient of the columns to that of the input before its rectifier, set in `out` or added to it.
    pub fn backward_input(
        &self,
        level: Level,
        parameters: &Parameters,
        source: &[Pack],
        scratch: &mut Scratch,
        add: bool,
        out: &mut [Pack],
    ) {
        let gradient = match self.columns {
            Im2col::Depthwise(shape, id) => {
                let gradient = scratch.dz.of(MapSize { packs: self.input.packs, ..self.output });
                let (map, weight, gate) = (self.input, parameters.kernel(id), Some(source));
                return level.run(depthwise::InputGradient { shape, map, gradient, weight, add, gate, out });
            }
            Im2col::Rectified => &scratch.columns,
            Im2col::Parity | Im2col::Taps { .. } => {
                self.backward_columns(level, parameters, scratch, false);
                &scratch.da
            }
            Im2col::Halves => {
                self.backward_columns(level, parameters, scratch, false);
                match add {
                    true => floats_mut(out).iter_mut().zip(floats(&scratch.da)).for_each(|(x, g)| *x += g),
                    false => out.copy_from_slice(&scratch.da),
                }
                return;
            }
        };
        level.run(Gate { gradient, source, add, out });
    }

    /// From the gradient of the columns to that of the (rectified) input, set in `scratch.da` or added to it.
    pub fn backward_columns(&self, level: Level, parameters: &Parameters, scratch: &mut Scratch, add: bool) {
        let Scratch { dz, da, columns, dy, strip, .. } = scratch;
        da.resize(self.input.len(), Pack::ZERO);
        match self.columns {
            Im2col::Depthwise(shape, id) => {
                let gradient = dz.of(MapSize { packs: self.input.packs, ..self.output });
                let weight = parameters.kernel(id);
                level.run(depthwise::InputGradient {
                    shape,
                    map: self.input,
                    gradient,
                    weight,
                    add,
                    gate: None,
                    out: da,
                });
            }
            Im2col::Rectified => da.copy_from_slice(columns),
            Im2col::Parity => {
                if !add {
                    da.fill(Pack::ZERO);
                }
                let (even, odd) = columns.split_at(columns.len() / 2);
                level.run(parity::ParityScatter { map: self.input, even, odd, out: da });
            }
            Im2col::Taps { stride } => {
                if !add {
                    da.fill(Pack::ZERO);
                }
                let (map, [inputs, outputs]) = (self.output, parameters.channels(self.pointwise));
                for rows in self.strips() {
                    let (first, width) = (rows.start * map.width, rows.len() * map.width);
                    strip.resize(inputs.packs() * width, Pack::ZERO);
                    level.run(PointwiseForward {
                        inputs: outputs,
                        outputs: inputs,
                        rows: 1,
                        width,
                        source: &dy[first..],
                        source_plane: map.pixels(),
                        weight: &parameters.transposed[self.pointwise],
                        out: strip,
                        out_plane: width,
                        out_step: width,
                        sums: None,
                    });
                    let columns = &strip[..];
                    level.run(taps::TapsScatter { stride, map: self.input, columns, rows, out: da });
                }
            }
            Im2col::Halves => level.run(taps::Double { map: self.input, gradient: columns, out: da }),
        }
    }
}

/// Blocks of the input, and where they are among all of it.
pub struct InputBlocks<'a> {
    /// Of these blocks alone.
    pub map: MapSize,
    /// The map: padded and rectified for a depthwise convolution, else plain.
    pub source: &'a [Pack],
    /// Blocks before them.
    pub before: usize,
    /// Blocks of the whole input.
    pub blocks: usize,
    /// Blocks of one of the maps that the columns are of.
    pub each: usize,
    /// Channels that count of the last block.
    pub last: usize,
}

impl InputBlocks<'_> {
    /// Their columns of some rows of the output, among those of the whole input: `[block][pixel]`, or
    /// `[two blocks][pixel]` in pairs.
    pub fn columns(
        &self,
        columns: Im2col,
        level: Level,
        parameters: &Parameters,
        rows: Range<usize>,
        pairs: bool,
        out: &mut [Pack],
    ) {
        let InputBlocks { map, source, before, blocks, each, last } = *self;
        let pixels = rows.len() * map.strided(columns.stride()).width;
        let out = Strip { packs: out, pixels, before, each };
        match columns {
            Im2col::Depthwise(shape, id) => {
                let weight = parameters.kernel(id);
                strip::run(
                    level,
                    pairs,
                    depthwise::DepthwiseForward { shape, map, source, weight, rows, last, out },
                );
            }
            Im2col::Rectified => {
                strip::run(level, pairs, elementwise::ReluForward { map, source, rows, out })
            }
            Im2col::Parity => {
                strip::run(level, pairs, parity::ParityGather { map, source, rows, half: blocks, out })
            }
            Im2col::Taps { stride } => {
                strip::run(level, pairs, taps::TapsGather { stride, map, source, rows, step: blocks, out })
            }
            Im2col::Halves => strip::run(level, pairs, taps::AverageHalve { map, source, rows, out }),
        }
    }
}

/// The gradient of a BatchNorm's input `value` for that of its output.
pub fn norm_gradient(
    level: Level,
    map: MapSize,
    slope: &NormCoefficient,
    gradient: &[Pack],
    value: &[Pack],
    out: &mut Vec<Pack>,
) {
    out.resize(map.len(), Pack::ZERO);
    let terms = [ScaledMap { scale: &slope.a, map: gradient }, ScaledMap { scale: &slope.b, map: value }];
    level.run(WeightedSum { map, terms: &terms, bias: &slope.c, add: false, out });
}
