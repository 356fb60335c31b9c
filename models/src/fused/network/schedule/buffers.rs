//! Assignment of buffers to the feature maps of an image. After its last reader, a feature map's buffer is reused by
//! the next one of the same size.

use std::collections::HashMap;

use crate::kernels::cpu::MapSize;

use super::{EvalStep, Schedule, SumStart};

/// Index of a buffer.
pub(super) type Id = usize;

/// Size of a buffer for a feature map.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BufferSize {
    pub(super) map: MapSize,
    /// Whether the buffer has a border, which stays zero.
    pub(super) padded: bool,
}

impl BufferSize {
    pub(super) fn len(self) -> usize {
        if self.padded { self.map.padded_len() } else { self.map.len() }
    }
}

impl EvalStep {
    /// Returns all buffers that the step uses.
    fn ids(&mut self) -> Vec<&mut Id> {
        match self {
            EvalStep::Layer(layer) => {
                let start = match &mut layer.start {
                    SumStart::Map(id) => Some(id),
                    SumStart::Zero | SumStart::Plain => None,
                };
                layer
                    .source
                    .iter_mut()
                    .chain(layer.ready.as_mut().map(|ready| &mut ready.buffer))
                    .chain(start)
                    .chain(&mut layer.plain)
                    .chain(&mut layer.padded)
                    .chain(layer.factors.as_mut().map(|factors| &mut factors.buffer))
                    .collect()
            }
            EvalStep::Pool(pool) => vec![&mut pool.source, &mut pool.out],
            EvalStep::Sum(sum) => {
                sum.terms.iter_mut().flat_map(|term| &mut term.parts).chain([&mut sum.out]).collect()
            }
            EvalStep::Pad { source, out } => vec![source, out],
            EvalStep::Relu { source, out } => vec![source, &mut out.buffer],
        }
    }
}

impl Schedule {
    /// Replaces the buffers, one per feature map, by as few as the liveness allows.
    pub(super) fn share_buffers(&mut self) {
        let mut ends = vec![0; self.buffers.len()];
        for (at, step) in self.steps.iter_mut().enumerate() {
            step.ids().into_iter().for_each(|id| ends[*id] = at);
        }
        self.last.iter().for_each(|&id| ends[id] = usize::MAX);
        let mut shared: Vec<BufferSize> = Vec::new();
        let mut free: HashMap<BufferSize, Vec<Id>> = HashMap::new();
        let mut places: Vec<Option<Id>> = vec![None; self.buffers.len()];
        for (at, step) in self.steps.iter_mut().enumerate() {
            let mut done = Vec::new();
            for id in step.ids() {
                let (map, size) = (*id, self.buffers[*id]);
                let place = *places[map].get_or_insert_with(|| {
                    free.entry(size).or_default().pop().unwrap_or_else(|| {
                        shared.push(size);
                        shared.len() - 1
                    })
                });
                *id = place;
                if ends[map] == at && !done.contains(&place) {
                    done.push(place);
                }
            }
            done.into_iter().for_each(|place| free.entry(shared[place]).or_default().push(place));
        }
        self.last.iter_mut().for_each(|id| *id = places[*id].unwrap_or_default());
        self.buffers = shared;
    }
}
