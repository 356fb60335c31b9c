//! Check of a schedule: every step reads what an earlier one has written.

use super::buffers::Id;
use super::{EvalStep, Schedule, SumStart};

/// Buffers that a step reads, and those that it writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    reads: Vec<Id>,
    writes: Vec<Id>,
}

impl EvalStep {
    fn access(&self) -> Access {
        match self {
            EvalStep::Layer(layer) => {
                let start = match layer.start {
                    SumStart::Map(id) => Some(id),
                    // The destination already has the values.
                    SumStart::Plain => layer.plain,
                    SumStart::Zero => None,
                };
                let ready = layer.ready.map(|ready| ready.buffer);
                let factors = layer.factors.map(|factors| factors.buffer);
                Access {
                    reads: layer.source.iter().copied().chain(ready).chain(start).collect(),
                    writes: layer.plain.into_iter().chain(layer.padded).chain(factors).collect(),
                }
            }
            EvalStep::Pool(pool) => Access { reads: vec![pool.source], writes: vec![pool.out] },
            EvalStep::Sum(sum) => Access {
                reads: sum.terms.iter().flat_map(|term| term.parts.iter().copied()).collect(),
                writes: vec![sum.out],
            },
            EvalStep::Pad { source, out } => Access { reads: vec![*source], writes: vec![*out] },
            EvalStep::Relu { source, out } => Access { reads: vec![*source], writes: vec![out.buffer] },
        }
    }
}

impl Schedule {
    pub(super) fn accesses(&self) -> Vec<Access> {
        self.steps.iter().map(EvalStep::access).collect()
    }

    /// Checks shared buffers against the accesses to one buffer per feature map: when a step reads a buffer, it still has
    /// the feature map that the step reads.
    ///
    /// # Errors
    /// Names the first step that reads another feature map, or one that nobody wrote.
    pub(super) fn check_sharing(&self, maps: &[Access], last: &[Id]) -> Result<(), String> {
        let mut held: Vec<Option<Id>> = vec![None; self.buffers.len()];
        let holds = |held: &[Option<Id>], step: &str, buffers: &[Id], maps: &[Id]| match buffers
            .iter()
            .zip(maps)
            .find(|(buffer, map)| held[**buffer] != Some(**map))
        {
            Some((buffer, map)) => {
                Err(format!("{step} reads map {map} from buffer {buffer}, which has {:?}", held[*buffer]))
            }
            None => Ok(()),
        };
        for (at, (step, maps)) in self.steps.iter().zip(maps).enumerate() {
            let Access { reads, writes } = step.access();
            holds(&held, &format!("step {at}"), &reads, &maps.reads)?;
            // Only a sum that grows in place reads and writes one buffer.
            let read = |(write, to): &(&Id, &Id)| {
                reads.iter().zip(&maps.reads).any(|(read, from)| read == *write && from != *to)
            };
            if let Some((both, _)) = writes.iter().zip(&maps.writes).find(read) {
                return Err(format!("step {at} reads and writes buffer {both}"));
            }
            writes.iter().zip(&maps.writes).for_each(|(buffer, map)| held[*buffer] = Some(*map));
        }
        holds(&held, "the head", &self.last, last)
    }
}

#[cfg(test)]
mod tests {
    use crate::kernels::cpu::MapSize;

    use super::super::buffers::BufferSize;
    use super::*;

    fn schedule() -> Schedule {
        let map = MapSize { packs: 1, height: 4, width: 4 };
        let pad = |source, out| EvalStep::Pad { source, out };
        Schedule {
            buffers: vec![BufferSize { map, padded: false }; 5],
            // Map 0 is the input.
            steps: vec![pad(0, 1), pad(1, 2), pad(2, 3), pad(3, 4)],
            last: vec![4],
            ..Schedule::default()
        }
    }

    #[test]
    fn reads_of_overwritten_buffers_are_found() {
        let maps = schedule().accesses();
        // The first step reads what nobody wrote.
        let message = schedule().check_sharing(&maps, &[4]).unwrap_err();
        assert_eq!(message, "step 0 reads map 0 from buffer 0, which has None");
        let mut good = schedule();
        good.steps.remove(0);
        good.steps.insert(
            0,
            EvalStep::Sum(super::super::EvalSum {
                terms: Vec::new(),
                bias: Vec::new(),
                map: good.buffers[0].map,
                out: 1,
            }),
        );
        let maps = good.accesses();
        good.check_sharing(&maps, &[4]).unwrap();
        // Map 2 is overwritten before it is read.
        let EvalStep::Pad { out, .. } = &mut good.steps[1] else { panic!() };
        *out = 1;
        let message = good.check_sharing(&maps, &[4]).unwrap_err();
        assert!(message.contains("step 1 reads and writes buffer 1"), "{message}");
        let EvalStep::Pad { out, .. } = &mut good.steps[1] else { panic!() };
        *out = 3;
        let message = good.check_sharing(&maps, &[4]).unwrap_err();
        assert!(message.contains("step 2 reads map 2 from buffer 2, which has None"), "{message}");
        assert!(good.check_sharing(&maps, &[3]).is_err());
    }
}
