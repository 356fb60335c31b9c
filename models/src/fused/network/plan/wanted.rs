//! How the states are read, and so in which forms evaluation leaves them.

use super::super::super::unit::Columns;
use super::super::{Network, Slot, Source, Step, Term};
use super::Form;

/// The slots that are read, by form.
#[derive(Default)]
pub(super) struct Wanted {
    plain: Vec<Slot>,
    padded: Vec<Slot>,
    factors: Vec<Slot>,
}

impl Wanted {
    /// By the steps that have a part in evaluation, whose factors are of this form.
    pub(super) fn new(network: &Network, form: Form) -> Wanted {
        let program = &network.program;
        let mut wanted = Wanted { plain: vec![program.last], ..Wanted::default() };
        for (at, step) in program.steps.iter().enumerate() {
            match step {
                Step::Sum(sum) => wanted.plain.extend(sum.terms.iter().filter_map(|term| match term {
                    Term::State(slot) => Some(*slot),
                    Term::Made(_) => None,
                })),
                _ if network.idles(at) => (),
                Step::Pool(pool) => wanted.plain.push(pool.source),
                Step::Passing(passing) => wanted.plain.push(passing.source),
                Step::Convolution(convolution) => {
                    let Source::State(slot) = convolution.source else { continue };
                    match convolution.unit.columns {
                        Columns::Depthwise(..) => wanted.padded.push(slot),
                        columns if form.ready(columns) => wanted.factors.push(slot),
                        _ => wanted.plain.push(slot),
                    }
                }
            }
        }
        wanted
    }

    /// Whether a state is read as it is.
    pub(super) fn plain(&self, state: Slot) -> bool {
        reads(&self.plain, state)
    }

    /// Whether it is read rectified and padded.
    pub(super) fn padded(&self, state: Slot) -> bool {
        reads(&self.padded, state)
    }

    /// Whether it is read rectified, as factors.
    pub(super) fn factors(&self, state: Slot) -> bool {
        reads(&self.factors, state)
    }
}

fn reads(slots: &[Slot], state: Slot) -> bool {
    slots.iter().any(|slot| {
        let inside = slot.offset..slot.offset + slot.map.len();
        slot.buffer == state.buffer && inside.contains(&state.offset)
    })
}
