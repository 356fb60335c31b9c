//! Which states evaluation reads, and in which forms.

use super::super::super::unit::Im2col;
use super::super::{ConvSource, FusedNetwork, MapSlot, SumTerm, TrainStep};
use super::FactorStorage;

/// The slots that are read, by form.
#[derive(Default)]
pub(super) struct ReadSlots {
    plain: Vec<MapSlot>,
    padded: Vec<MapSlot>,
    factors: Vec<MapSlot>,
}

impl ReadSlots {
    /// Collects the slots that evaluation steps read, with operands in the given format.
    pub(super) fn new(network: &FusedNetwork, form: FactorStorage) -> ReadSlots {
        let program = &network.program;
        let mut wanted = ReadSlots { plain: vec![program.last], ..ReadSlots::default() };
        for (at, step) in program.steps.iter().enumerate() {
            match step {
                TrainStep::Sum(sum) => wanted.plain.extend(sum.terms.iter().filter_map(|term| match term {
                    SumTerm::State(slot) => Some(*slot),
                    SumTerm::Made(_) => None,
                })),
                _ if network.idles(at) => (),
                TrainStep::Pool(pool) => wanted.plain.push(pool.source),
                TrainStep::Passing(passing) => wanted.plain.push(passing.source),
                TrainStep::Convolution(convolution) => {
                    let ConvSource::State(slot) = convolution.source else { continue };
                    match convolution.unit.columns {
                        Im2col::Depthwise(..) => wanted.padded.push(slot),
                        columns if form.ready(columns) => wanted.factors.push(slot),
                        _ => wanted.plain.push(slot),
                    }
                }
            }
        }
        wanted
    }

    /// Whether a state is read without ReLU.
    pub(super) fn plain(&self, state: MapSlot) -> bool {
        reads(&self.plain, state)
    }

    /// Whether a state is read after ReLU and with padding.
    pub(super) fn padded(&self, state: MapSlot) -> bool {
        reads(&self.padded, state)
    }

    /// Whether a state is read after ReLU, as operands.
    pub(super) fn factors(&self, state: MapSlot) -> bool {
        reads(&self.factors, state)
    }
}

fn reads(slots: &[MapSlot], state: MapSlot) -> bool {
    slots.iter().any(|slot| {
        let inside = slot.offset..slot.offset + slot.map.len();
        slot.buffer == state.buffer && inside.contains(&state.offset)
    })
}
