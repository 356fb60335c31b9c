//! Execution of the evaluation steps for one image.

use core::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::kernels::cpu::bf16::Round;
use crate::kernels::cpu::elementwise::{PadRelu, ReluForward, ScaledMap as Addend, WeightedSum};
use crate::kernels::cpu::layer;
use crate::kernels::cpu::strip::{self, Strip};
use crate::kernels::cpu::tile::Operands;
use crate::kernels::cpu::{LANES, MapSize, Pack, pool};

use super::super::super::head::Head;
use super::super::super::unit::InputBlocks;
use super::super::{FusedNetwork, Prediction};
use super::{ConvLayer, EvalPool, EvalStep, EvalSum, FactorBuffer, FactorStorage, Id, Schedule, SumStart};

/// Feature maps of one image.
#[derive(Default)]
pub(super) struct ImageMaps {
    buffers: Vec<Vec<Pack>>,
    /// Output of the pool that is not needed, since the kernel computes both pools, and the sums of both.
    pool: [Vec<Pack>; 2],
    /// Columns of some rows, one buffer per thread.
    strips: Mutex<Vec<Vec<Pack>>>,
}

/// A convolution and its inputs, while its rows are computed.
struct Turn<'a> {
    network: &'a FusedNetwork,
    image: &'a [f32],
    /// The buffers, without those that are written to.
    buffers: &'a [Vec<Pack>],
    layer: &'a ConvLayer,
    strips: &'a Mutex<Vec<Vec<Pack>>>,
}

/// Some rows of a feature map, block by block.
type Blocks<'a> = Vec<&'a mut [Pack]>;

impl Schedule {
    /// Returns the prediction for one image `[C, H, W]`, computed by `threads` threads.
    pub(in super::super) fn answer(
        &self,
        network: &FusedNetwork,
        image: &[f32],
        threads: usize,
    ) -> Prediction {
        let kept = self.workers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut worker, mut head) =
            kept.unwrap_or_else(|| (ImageMaps::default(), network.program.head.clone()));
        self.run(network, image, threads, &mut worker, &mut head);
        let features = head.features(network.program.last.channels).collect();
        let found = Prediction { logits: head.logits.clone(), features };
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push((worker, head));
        found
    }

    fn run(
        &self,
        network: &FusedNetwork,
        image: &[f32],
        threads: usize,
        worker: &mut ImageMaps,
        head: &mut Head,
    ) {
        let new = self.buffers.iter().skip(worker.buffers.len()).map(|buffer| vec![Pack::ZERO; buffer.len()]);
        worker.buffers.extend(new);
        for step in &self.steps {
            match step {
                EvalStep::Layer(layer) => {
                    // A step never reads and writes the same buffer.
                    let mut take = |id: Option<Id>| id.map(|id| std::mem::take(&mut worker.buffers[id]));
                    let (mut plain, mut padded) = (take(layer.plain), take(layer.padded));
                    let factors = layer.factors.map(|factors| factors.buffer);
                    let mut factors_buffer = take(factors);
                    let MapSize { height, width, .. } = layer.output;
                    let before = layer.factors.map_or(0, |factors| factors.before);
                    let out = [
                        plain.as_mut().map(|buffer| buffer.chunks_exact_mut(height * width).collect()),
                        factors_buffer
                            .as_mut()
                            .map(|buffer| buffer.chunks_exact_mut(height * width).skip(before).collect()),
                        padded.as_mut().map(|buffer| {
                            buffer.chunks_exact_mut(height * layer.output.padded_width()).collect()
                        }),
                    ];
                    let turn =
                        Turn { network, image, buffers: &worker.buffers, layer, strips: &worker.strips };
                    turn.share(0..height, out, threads);
                    for (id, buffer) in
                        [(layer.plain, plain), (layer.padded, padded), (factors, factors_buffer)]
                    {
                        if let (Some(id), Some(buffer)) = (id, buffer) {
                            worker.buffers[id] = buffer;
                        }
                    }
                }
                EvalStep::Pool(pool) => worker.pool(network, pool),
                EvalStep::Sum(sum) => worker.sum(network, sum),
                EvalStep::Pad { source, out } => {
                    let map = self.buffers[*source].map;
                    let scale = &network.program.identity.scale[..];
                    let mut to = std::mem::take(&mut worker.buffers[*out]);
                    let (source, shift) = (&worker.buffers[*source][..], &network.program.identity.shift[..]);
                    network.level.run(PadRelu { map, source, scale, shift, out: &mut to });
                    worker.buffers[*out] = to;
                }
                EvalStep::Relu { source, out } => {
                    let map = self.buffers[*source].map;
                    let mut to = std::mem::take(&mut worker.buffers[out.buffer]);
                    let (source, pixels) = (&worker.buffers[*source][..], map.pixels());
                    let packs = &mut to[out.before * pixels..];
                    let strip = Strip::new(packs, pixels);
                    let activate = ReluForward { map, source, rows: 0..map.height, out: strip };
                    strip::run(network.level, self.form == FactorStorage::Pairs, activate);
                    worker.buffers[out.buffer] = to;
                }
            }
        }
        let pixels = network.program.last.map.pixels();
        let parts = self.last.iter().map(|&id| &worker.buffers[id][..]);
        head.answer(&network.program.tensors.parameters, parts, pixels);
    }
}

impl ImageMaps {
    fn pool(&mut self, network: &FusedNetwork, pool: &EvalPool) {
        let mut out = std::mem::take(&mut self.buffers[pool.out]);
        let EvalPool { maximum, stride, map, source, .. } = *pool;
        let [other, sums] = &mut self.pool;
        other.resize(out.len(), Pack::ZERO);
        sums.resize(4 * map.packs, Pack::ZERO);
        let (max, average) = if maximum { (&mut out, other) } else { (other, &mut out) };
        let source = &self.buffers[source];
        network.level.run(pool::PoolForward { stride, map, source, max, average, sums });
        self.buffers[pool.out] = out;
    }

    /// Computes a sum block by block, since parts may have different numbers of blocks.
    fn sum(&mut self, network: &FusedNetwork, sum: &EvalSum) {
        let mut out = std::mem::take(&mut self.buffers[sum.out]);
        let (pixels, map) = (sum.map.pixels(), MapSize { packs: 1, ..sum.map });
        for (block, out) in out.chunks_exact_mut(pixels).enumerate() {
            let plane = |parts: &[Id]| {
                let mut planes = parts.iter().flat_map(|&id| self.buffers[id].chunks_exact(pixels));
                planes.nth(block).unwrap_or_default()
            };
            let terms: Vec<Addend<'_>> = sum
                .terms
                .iter()
                .map(|term| Addend { scale: &term.scale[block..=block], map: plane(&term.parts) })
                .collect();
            let bias = &sum.bias[block..=block];
            network.level.run(WeightedSum { map, terms: &terms, bias, add: false, out });
        }
        self.buffers[sum.out] = out;
    }
}

impl Turn<'_> {
    /// Splits the rows in halves until each thread has some.
    fn share(&self, rows: Range<usize>, out: [Option<Blocks<'_>>; 3], threads: usize) {
        if threads < 2 || rows.len() < 2 {
            return self.work(rows, out);
        }
        let (output, left) = (self.layer.output, threads / 2);
        let middle = (rows.len() * left).div_ceil(threads);
        let [plain, factors, padded] = out;
        let (top, bottom) = cut(plain, middle * output.width);
        let (factors_top, factors_bottom) = cut(factors, middle * output.width);
        let (padded_top, padded_bottom) = cut(padded, middle * output.padded_width());
        let middle = rows.start + middle;
        rayon::join(
            || self.share(rows.start..middle, [top, factors_top, padded_top], left),
            || self.share(middle..rows.end, [bottom, factors_bottom, padded_bottom], threads - left),
        );
    }

    fn work(&self, all: Range<usize>, mut out: [Option<Blocks<'_>>; 3]) {
        let kept = self.strips.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut strip = kept.unwrap_or_default();
        let height = self.layer.strip(all.len());
        for start in all.clone().step_by(height) {
            let rows = start..(start + height).min(all.end);
            self.strip(rows, start - all.start, &mut strip, &mut out);
        }
        self.strips.lock().unwrap_or_else(PoisonError::into_inner).push(strip);
    }

    /// Computes some rows. `skip` rows of `out` come before them.
    fn strip(
        &self,
        rows: Range<usize>,
        skip: usize,
        strip: &mut Vec<Pack>,
        [plain, factors, padded]: &mut [Option<Blocks<'_>>; 3],
    ) {
        let Turn { network, layer, .. } = *self;
        let (level, width, pixels) = (network.level, layer.output.width, rows.len() * layer.output.width);
        let [inputs, outputs] = layer.channels;
        let start = match layer.start {
            SumStart::Zero => layer::Accumulator::Zero,
            SumStart::Plain => layer::Accumulator::Plain,
            SumStart::Map(id) => {
                layer::Accumulator::Map(&self.buffers[id][rows.start * width..], layer.output.pixels())
            }
        };
        let (source, plane) = match layer.ready {
            Some(FactorBuffer { buffer, before }) => {
                let plane = layer.output.pixels();
                (&self.buffers[buffer][before * plane + rows.start * width..], plane)
            }
            None => {
                let columns = self.columns(rows, strip);
                if layer.form == FactorStorage::Rounded {
                    level.run(Round(columns));
                }
                (&columns[..], pixels)
            }
        };
        let kernel = layer::Layer {
            operands: Operands { inputs, source, plane, weight: &layer.weight },
            outputs,
            bias: &layer.bias,
            pixels,
            width,
            start,
            plain: plain.as_deref_mut(),
            padded: padded.as_deref_mut(),
            factors: factors.as_deref_mut(),
            skip,
        };
        strip::run(level, layer.form == FactorStorage::Pairs, kernel);
    }

    fn columns<'o>(&self, rows: Range<usize>, out: &'o mut Vec<Pack>) -> &'o mut [Pack] {
        let Turn { network, layer, .. } = *self;
        let Some(columns) = layer.columns else {
            network.program.stem.patches(self.image, rows, out);
            return out;
        };
        let (pairs, pixels) = (layer.form == FactorStorage::Pairs, rows.len() * layer.output.width);
        let out = grown(out, layer.channels[0].shared(layer.form.share()) * pixels);
        let each = layer.channels[0].each.div_ceil(LANES);
        let mut before = 0;
        for &id in &layer.source {
            let source = &self.buffers[id][..];
            let packs = match layer.source.len() {
                1 => layer.input.packs,
                _ => source.len() / layer.input.pixels(),
            };
            let last = layer.channels[0].filled(before + packs - 1);
            let part = InputBlocks {
                map: MapSize { packs, ..layer.input },
                source,
                before,
                blocks: layer.input.packs,
                each,
                last,
            };
            let parameters = &network.program.tensors.parameters;
            part.columns(columns, network.level, parameters, rows.clone(), pairs, out);
            before += packs;
        }
        out
    }
}

/// Returns the first `packs` packs of a buffer that all layers use. The buffer only grows, since cut-off packs would
/// have to be filled again.
fn grown(kept: &mut Vec<Pack>, packs: usize) -> &mut [Pack] {
    if kept.len() < packs {
        kept.resize(packs, Pack::ZERO);
    }
    &mut kept[..packs]
}

/// Splits each block after `at` packs.
fn cut(blocks: Option<Blocks<'_>>, at: usize) -> (Option<Blocks<'_>>, Option<Blocks<'_>>) {
    blocks.map(|blocks| blocks.into_iter().map(|block| block.split_at_mut(at)).unzip()).unzip()
}

/// Approximate number of packs of columns computed at a time; they fill the nearest cache.
const STRIP: usize = 576;

impl ConvLayer {
    /// Number of a thread's rows whose columns are computed at a time. The weights are read again for each strip, so
    /// strips have nearly equal sizes.
    fn strip(&self, rows: usize) -> usize {
        let most = (STRIP / (self.channels[0].packs() * self.output.width)).max(1);
        rows.div_ceil(rows.div_ceil(most).max(1)).max(1)
    }
}
