//! Calls to a GPU, collected until a result is read. A sequence of calls that repeats is replayed as a whole, since
//! thousands of separate launches cost more time than many of them take to run.

use super::convolution::Convolve;
use super::device::{Arg, Gemm, Words};

/// One operation of a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// A kernel, the number of its blocks, and its arguments.
    Launch(&'static str, u32, Vec<Arg>),
    /// A matrix product.
    Gemm(Gemm),
    /// A convolution by a library.
    Convolve(Convolve),
    /// Elements to set to zero.
    Clear(Words),
}

impl Call {
    /// Returns the memory that the call reads or writes, and whether it writes to it.
    pub fn touches(&self) -> Vec<(Words, bool)> {
        match self {
            Call::Launch(_, _, args) => args.iter().filter_map(Arg::words).collect(),
            Call::Gemm(gemm) => gemm.touches(),
            Call::Convolve(convolve) => convolve.touches(),
            Call::Clear(words) => vec![(*words, true)],
        }
    }
}

/// Smallest number of calls for which a replay is faster.
#[cfg(any(feature = "cuda", test))]
const FEWEST: usize = 32;

/// Number of sequences that are remembered. A first-order step has one, a second-order step one per pass, an
/// evaluation one. The smaller last batch of an epoch needs the same number again.
#[cfg(any(feature = "cuda", test))]
const MOST: usize = 16;

/// Sequences of calls, and the replays `R` of those that occurred again.
#[cfg(any(feature = "cuda", test))]
pub(super) struct Repeats<R> {
    /// Known sequences; the most recent one is last.
    known: Vec<(Vec<Call>, Option<R>)>,
}

#[cfg(any(feature = "cuda", test))]
impl<R> Repeats<R> {
    pub(super) fn new() -> Repeats<R> {
        Repeats { known: Vec::new() }
    }

    /// Forgets all sequences, as required when memory is released.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// Returns the slot for the replay of a sequence if the sequence occurred before.
    pub(super) fn find(&mut self, calls: &[Call]) -> Option<&mut Option<R>> {
        let at = self.known.iter().position(|(known, _)| known == calls)?;
        self.known[at..].rotate_left(1);
        self.known.last_mut().map(|(_, replay)| replay)
    }

    /// Remembers a sequence that occurs for the first time.
    pub(super) fn remember(&mut self, calls: Vec<Call>) {
        if calls.len() < FEWEST {
            return;
        }
        if self.known.len() == MOST {
            self.known.remove(0);
        }
        self.known.push((calls, None));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Call, FEWEST, MOST, Repeats};
    use crate::kernels::cuda::{Arg, Gemm, Words};

    fn calls(last: f32) -> Vec<Call> {
        let words = Words::new(64, 8);
        let launch = |value| Call::Launch("kernel", 3, vec![Arg::Read(words), Arg::Float(value)]);
        let [a, b, c] = [words; 3];
        let gemm = Gemm { sizes: [1; 3], a, transposed: false, b, c, steps: [0; 3], batch: 1, add: false };
        let more = (3..FEWEST).map(|_| launch(0.5)).chain([launch(last)]);
        [Call::Clear(words), Call::Gemm(gemm)].into_iter().chain(more).collect()
    }

    /// Returns the replay of a known sequence; remembers an unknown one.
    fn again(repeats: &mut Repeats<i32>, calls: &[Call]) -> Option<Option<i32>> {
        let found = repeats.find(calls).map(|replay| *replay);
        if found.is_none() {
            repeats.remember(calls.to_vec());
        }
        found
    }

    #[test]
    fn only_the_same_calls_are_replayed() {
        let mut repeats = Repeats::new();
        assert_eq!(again(&mut repeats, &calls(1.0)), None);
        assert_eq!(again(&mut repeats, &calls(2.0)), None);
        *repeats.find(&calls(1.0)).unwrap() = Some(7);
        assert_eq!(again(&mut repeats, &calls(2.0)), Some(None));
        assert_eq!(again(&mut repeats, &calls(1.0)), Some(Some(7)));
        for _ in 0..2 {
            assert_eq!(again(&mut repeats, &calls(1.0)[1..]), None, "too few");
        }
        repeats.clear();
        assert_eq!(again(&mut repeats, &calls(1.0)), None);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let mut repeats = Repeats::new();
        for i in 0..=MOST {
            assert_eq!(again(&mut repeats, &calls(i as f32)), None);
        }
        assert_eq!(again(&mut repeats, &calls(1.0)), Some(None));
        assert_eq!(again(&mut repeats, &calls(0.0)), None);
        assert_eq!(again(&mut repeats, &calls(1.0)), Some(None));
        assert_eq!(again(&mut repeats, &calls(2.0)), None);
    }
}
