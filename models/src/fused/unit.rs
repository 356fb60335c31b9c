//! A convolution in two parts, the form of all convolutions of the network. A cheap operation computes the im2col columns
//! of a pixel (depthwise taps, pixels after ReLU, even and odd pixels). A pointwise convolution follows.
//!
//! The columns are computed for a strip of pixels at a time, which fits in the nearest cache.

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

/// Operation that computes the columns.
#[derive(Copy, Clone, Debug)]
pub enum Im2col {
    /// Depthwise convolution of a padded feature map after ReLU, by this weight.
    Depthwise(DepthwiseShape, Id),
    /// Pixels of a feature map after ReLU.
    AfterRelu,
    /// Even, then odd pixels of a feature map after ReLU.
    Parity,
    /// Taps of a 3x3 window of a feature map after ReLU, with zero padding.
    Taps {
        /// Rows and columns between neighbouring windows.
        stride: usize,
    },
    /// Means of 2x2 windows of a feature map.
    Halves,
}

impl Im2col {
    /// Whether ReLU is applied to the input.
    pub fn applies_relu(self) -> bool {
        !matches!(self, Im2col::Halves)
    }

    /// Rows and columns of the input between neighbouring pixels of the output.
    pub fn stride(self) -> usize {
        match self {
            Im2col::Depthwise(shape, _) => shape.stride,
            Im2col::AfterRelu => 1,
            Im2col::Parity | Im2col::Halves => 2,
            Im2col::Taps { stride } => stride,
        }
    }
}

/// A conv-BN block without its norm: the columns and the pointwise convolution.
#[derive(Copy, Clone, Debug)]
pub struct ConvBlock {
    /// Operation that computes the columns.
    pub columns: Im2col,
    /// Weight that multiplies the columns.
    pub pointwise: Id,
    /// Size of the input of one image.
    pub input: MapSize,
    /// Size of the output of one image.
    pub output: MapSize,
}

/// Number of packs of columns computed at a time.
const STRIP: usize = 128;
/// Number of packs of columns computed at a time for taps. Their weights are too large for the nearest cache to hold
/// both.
const TAPS: usize = 1024;

impl ConvBlock {
    /// Sets the size of the input.
    pub fn resize(&mut self, input: MapSize) {
        let stride = self.columns.stride();
        self.input = input;
        self.output = MapSize { packs: self.output.packs, ..input.strided(stride) };
    }

    /// Number of packs of a pixel's column.
    pub fn inputs(&self) -> usize {
        match self.columns {
            Im2col::Parity => 2 * self.input.packs,
            Im2col::Taps { .. } => taps::SIDE * taps::SIDE * self.input.packs,
            _ => self.input.packs,
        }
    }

    /// Returns the parameters, in the order of their gradients.
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

    /// Computes the output of one image, and adds its `[2][block]` sums to `sums`.
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

    /// Adds the gradient of the pointwise weight, given the output gradient `dy`.
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

    /// Computes the gradient of the columns from the output gradient in `scratch.dy`. For a depthwise convolution it
    /// is padded, in `scratch.dz`; else it is in `scratch.columns`. If `gradients` is present, adds the gradients of
    /// the weights at its front and moves it past them.
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
            // The gradient of the columns has nine times the size of the feature map. `backward_columns` computes it
            // strip by strip.
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

    /// Computes the gradient of the input before ReLU from that of the columns, and writes it to `out` or adds it if
    /// `add`.
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
            Im2col::AfterRelu => &scratch.columns,
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

    /// Computes the gradient of the input after ReLU from that of the columns, and writes it to `scratch.da` or adds
    /// it if `add`.
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
            Im2col::AfterRelu => da.copy_from_slice(columns),
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

/// Consecutive channel blocks of an input, and their position in the whole input.
pub struct InputBlocks<'a> {
    /// Size of the blocks.
    pub map: MapSize,
    /// Feature map: padded and after ReLU for a depthwise convolution, else without padding and before ReLU.
    pub source: &'a [Pack],
    /// Number of blocks of the input before these.
    pub before: usize,
    /// Number of blocks of the whole input.
    pub blocks: usize,
    /// Number of blocks of each of the concatenated feature maps.
    pub each: usize,
    /// Number of used channels of the last block.
    pub last: usize,
}

impl InputBlocks<'_> {
    /// Computes the columns of the blocks for some rows of the output. They are written to their position among
    /// those of the whole input: `[block][pixel]`, or `[two blocks][pixel]` for pairs.
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
            Im2col::AfterRelu => {
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

/// Computes the gradient of a BatchNorm's input `value` from that of its output.
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
