//! Text of a schedule: its size, and a line for each step.

use std::fmt::{self, Display, Formatter};

use crate::kernels::cpu::{MapSize, Pack};

use super::super::super::unit::Im2col;
use super::buffers::Id;
use super::{ConvLayer, EvalStep, FactorStorage, Schedule, SumStart};

/// Bytes of a pack.
const PACK: usize = size_of::<Pack>();

impl Schedule {
    /// Returns the bytes of the feature maps of one image.
    pub fn map_bytes(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.len() * PACK).sum()
    }

    /// Returns the bytes of the weights in the form that the steps read.
    pub fn weight_bytes(&self) -> usize {
        let packs = |step: &EvalStep| match step {
            EvalStep::Layer(layer) => layer.weight.len() + layer.bias.len(),
            EvalStep::Sum(sum) => {
                sum.bias.len() + sum.terms.iter().map(|term| term.scale.len()).sum::<usize>()
            }
            EvalStep::Pool(_) | EvalStep::Pad { .. } | EvalStep::Relu { .. } => 0,
        };
        self.steps.iter().map(packs).sum::<usize>() * PACK
    }
}

impl Display for Schedule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes.div_ceil(1024);
        writeln!(
            f,
            "schedule    {} steps, {} buffers of {} KiB an image, {} KiB of weights",
            self.steps.len(),
            self.buffers.len(),
            kib(self.map_bytes()),
            kib(self.weight_bytes())
        )?;
        for (at, step) in self.steps.iter().enumerate() {
            writeln!(f, "{at:5}  {}", Line { step, schedule: self })?;
        }
        writeln!(f, "       mean, linear {}", list(&self.last))
    }
}

/// Step with its schedule, for printing.
struct Line<'a> {
    step: &'a EvalStep,
    schedule: &'a Schedule,
}

impl Line<'_> {
    fn size(&self, id: Id) -> MapSize {
        self.schedule.buffers[id].map
    }
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.step {
            EvalStep::Layer(layer) => write!(f, "{}", LayerLine(layer)),
            EvalStep::Pool(pool) => {
                let kind = if pool.maximum { "max" } else { "average" };
                write!(
                    f,
                    "{kind} pool 3x3, stride {}: b{} -> b{}, {}",
                    pool.stride,
                    pool.source,
                    pool.out,
                    shape(pool.map.strided(pool.stride))
                )
            }
            EvalStep::Sum(sum) => {
                let terms: Vec<String> = sum.terms.iter().map(|term| list(&term.parts)).collect();
                write!(f, "sum: {} -> b{}, {}", terms.join(" + "), sum.out, shape(sum.map))
            }
            EvalStep::Pad { source, out } => {
                write!(f, "relu, pad: b{source} -> b{out}, {}", shape(self.size(*out)))
            }
            EvalStep::Relu { source, out } => {
                write!(
                    f,
                    "relu: b{source} -> b{} from block {}, {}",
                    out.buffer,
                    out.before,
                    shape(self.size(*source))
                )
            }
        }
    }
}

struct LayerLine<'a>(&'a ConvLayer);

impl Display for LayerLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let layer = self.0;
        let kind = match layer.columns {
            None => "stem",
            Some(Im2col::Depthwise(..)) => "depthwise and 1x1",
            Some(Im2col::AfterRelu) => "1x1 after relu",
            Some(Im2col::Parity) => "1x1 of even and odd pixels after relu",
            Some(Im2col::Taps { .. }) => "3x3 after relu",
            Some(Im2col::Halves) => "1x1 of 2x2 means",
        };
        write!(f, "convolution {}: {kind}", layer.name)?;
        match layer.form {
            FactorStorage::Single => {}
            FactorStorage::Rounded => write!(f, ", rounded to bf16")?,
            FactorStorage::Pairs => write!(f, ", bf16")?,
        }
        let ready: Vec<Id> = layer.ready.iter().map(|ready| ready.buffer).collect();
        let sources = if ready.is_empty() { &layer.source } else { &ready };
        let source = if sources.is_empty() { "image".to_string() } else { list(sources) };
        let start = match layer.start {
            SumStart::Zero => String::new(),
            SumStart::Plain => " + destination".into(),
            SumStart::Map(id) => format!(" + b{id}"),
        };
        let plain = layer.plain.map(|id| format!("b{id}"));
        let padded = layer.padded.map(|id| format!("relu, pad b{id}"));
        let factors = layer.factors.map(|to| format!("relu b{} from block {}", to.buffer, to.before));
        let outs: Vec<String> = plain.into_iter().chain(padded).chain(factors).collect();
        write!(f, ": {source}{start} -> {}, {}", outs.join(" and "), shape(layer.output))
    }
}

/// Formats a size as blocks of 16 channels and pixels.
fn shape(map: MapSize) -> String {
    format!("{} x16 {}x{}", map.packs, map.height, map.width)
}

fn list(ids: &[Id]) -> String {
    ids.iter().map(|id| format!("b{id}")).collect::<Vec<_>>().join(" ")
}
