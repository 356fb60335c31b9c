//! Order of calls that may run at the same time. Two calls keep their order if one writes memory that the other reads
//! or writes; all others may run in any order. A pass through a network has branches, and a single launch seldom
//! fills a GPU.

use super::calls::Call;
use super::device::Words;

/// Number of lanes of a GPU: streams, each of which runs its calls one after the other.
pub const LANES: usize = 16;

/// Position of a call in the lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOrder {
    /// Lane, in which the call runs after all earlier calls of the lane. Lane 0 is for libraries only, since each has
    /// one workspace.
    pub lane: usize,
    /// Indices of calls of other lanes that the call waits for.
    pub waits: Vec<usize>,
}

/// Progress of each lane: an index below which all its calls are complete.
type Done = [usize; LANES];

/// Returns the position of each call of a sequence. Running the calls by these positions gives the results of running
/// them in order.
pub fn places(calls: &[Call]) -> Vec<CallOrder> {
    let touched: Vec<_> = calls.iter().map(Call::touches).collect();
    let mut places: Vec<CallOrder> = Vec::with_capacity(calls.len());
    let mut done: Vec<Done> = Vec::with_capacity(calls.len());
    // One past the index of the last call of each lane.
    let mut ends = [0; LANES];
    for (own, call) in calls.iter().enumerate() {
        let (mut after, mut known) = (Vec::new(), [0; LANES]);
        for before in (0..own).rev() {
            if known[places[before].lane] <= before && conflict(&touched[before], &touched[own]) {
                after.push(before);
                learn(&mut known, &done[before]);
            }
        }
        let lane = match call {
            Call::Gemm(_) | Call::Convolve(_) => 0,
            Call::Launch(..) | Call::Clear(_) => after
                .iter()
                .map(|before| (places[*before].lane, *before))
                .find(|(lane, before)| *lane > 0 && ends[*lane] == before + 1)
                .or_else(|| (1..LANES).map(|lane| (lane, 0)).min_by_key(|(lane, _)| ends[*lane]))
                .map_or(0, |(lane, _)| lane),
        };
        // The lane's last call is complete before this one begins, and so are all calls that it waited for.
        let mut waits = after;
        if let Some(last) = ends[lane].checked_sub(1) {
            let before_lane = done[last];
            waits.retain(|before| before_lane[places[*before].lane] <= *before);
            learn(&mut known, &before_lane);
        }
        known[lane] = own + 1;
        ends[lane] = own + 1;
        places.push(CallOrder { lane, waits });
        done.push(known);
    }
    places
}

fn learn(known: &mut Done, more: &Done) {
    known.iter_mut().zip(more).for_each(|(known, more)| *known = *more.max(known));
}

/// Whether one of two calls writes memory that the other reads or writes.
fn conflict(a: &[(Words, bool)], b: &[(Words, bool)]) -> bool {
    a.iter().any(|(of_a, a_writes)| {
        b.iter().any(|(of_b, b_writes)| (*a_writes || *b_writes) && of_a.overlaps(*of_b))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Call, CallOrder, LANES, conflict, places};
    use crate::Rng;
    use crate::kernels::cuda::{Arg, Gemm, Words};

    fn launch(read: &[u64], written: &[u64]) -> Call {
        let words = |at: &u64| Words::new(64 + 32 * at, 8);
        let args = read.iter().map(|at| Arg::Read(words(at)));
        Call::Launch("kernel", 1, args.chain(written.iter().map(|at| Arg::Write(words(at)))).collect())
    }

    fn product(a: u64, b: u64, c: u64) -> Call {
        let [a, b, c] = [a, b, c].map(|at| Words::new(64 + 32 * at, 1000));
        // Each operand has eight elements; the rest of its memory is not accessed.
        Call::Gemm(Gemm { sizes: [2, 2, 2], a, transposed: false, b, c, steps: [4; 3], batch: 2, add: false })
    }

    /// Whether the first of two calls is complete before the second begins, according to lanes and waits.
    fn before(places: &[CallOrder], first: usize, second: usize) -> bool {
        let mut reached = vec![false; places.len()];
        reached[first] = true;
        for at in first + 1..=second {
            let of_lane = (first..at).rev().find(|other| places[*other].lane == places[at].lane);
            reached[at] = of_lane.iter().chain(&places[at].waits).any(|other| reached[*other]);
        }
        reached[second]
    }

    #[test]
    fn branches_run_at_once_and_meet_again() {
        // Call 0 writes 1. 2 and 3 are computed from 1, and 4 is their sum. Then 1 is overwritten.
        let calls = [
            launch(&[0], &[1]),
            launch(&[1], &[2]),
            launch(&[1], &[3]),
            launch(&[2, 3], &[4]),
            launch(&[], &[1]),
            launch(&[7], &[8]),
        ];
        let found = places(&calls);
        assert_eq!(found[0], CallOrder { lane: 1, waits: vec![] });
        assert_eq!(found[1], CallOrder { lane: 1, waits: vec![] });
        assert_eq!(found[2], CallOrder { lane: 2, waits: vec![0] });
        assert_eq!((found[3].lane, &found[3].waits), (2, &vec![1]));
        assert!(before(&found, 1, 4) && before(&found, 2, 4));
        assert!((0..5).all(|other| !before(&found, other, 5)));
    }

    #[test]
    fn only_what_a_product_touches_is_in_its_way() {
        let calls =
            [launch(&[], &[0, 10, 20, 30]), product(0, 10, 20), launch(&[], &[21]), launch(&[], &[30])];
        let found = places(&calls);
        assert!(found[1].lane == 0 && before(&found, 0, 1) && found[2].lane > 0);
        assert!(!before(&found, 1, 2) && !before(&found, 1, 3));
    }

    #[test]
    fn conflicts_keep_their_order() {
        let mut rng = Rng::new(1, "order");
        for _ in 0..40 {
            let mut some = |most: usize| -> Vec<u64> {
                let count = rng.below(most);
                (0..count).map(|_| rng.below(12) as u64).collect()
            };
            let mut calls: Vec<Call> = (0..60).map(|_| launch(&some(4), &some(3))).collect();
            calls[20] = product(1, 2, 3);
            calls[40] = Call::Clear(Words::new(64, 64));
            let found = places(&calls);
            let touched: Vec<_> = calls.iter().map(Call::touches).collect();
            for second in 0..calls.len() {
                assert!(found[second].lane < LANES);
                for first in (0..second).filter(|first| conflict(&touched[*first], &touched[second])) {
                    assert!(before(&found, first, second), "{first} and {second} of {found:?}");
                }
            }
        }
    }
}
