//! Convolutions that a library of a device has: dense and strided ones, which no kernel of ours is for.

use super::device::Words;
use super::windows::Windows;
use crate::Result;

/// A convolution of any kernel, stride, dilation and groups, as what windows see of its input `[channel][image][row][column]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Over its input.
    pub windows: Windows,
    /// Channels of the result.
    pub outputs: usize,
    /// How many parts of the channels have weights of their own.
    pub groups: usize,
}

/// What is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The result.
    Forward,
    /// Adds to the gradient of the input.
    ToInput,
    /// The gradient of the weight.
    ToWeight,
}

/// A convolution of maps: what the way asks for is written, the two others are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convolve {
    /// What is convolved.
    pub convolution: Convolution,
    /// What is asked for.
    pub way: Way,
    /// Input, or its gradient.
    pub x: Words,
    /// Weight `[output][input of a group][row][column]`, or its gradient.
    pub w: Words,
    /// Result `[output][image][row][column]`, or its gradient.
    pub y: Words,
}

impl Convolution {
    /// Shape of the weight.
    pub fn weight(&self) -> [usize; 4] {
        let [rows, columns] = self.windows.kernel;
        [self.outputs, self.windows.channels / self.groups, rows, columns]
    }

    /// Padding that is the same on both sides, if such a one makes as many windows: all that cuDNN knows.
    pub fn padding(&self) -> Option<[usize; 2]> {
        let Windows { input, output, kernel, stride, dilation, before, .. } = self.windows;
        let side = |i: usize| {
            let padding = usize::try_from(before[i]).ok()?;
            let room = (input[i] + 2 * padding).checked_sub(dilation[i] * (kernel[i] - 1) + 1)?;
            (room / stride[i] + 1 == output[i]).then_some(padding)
        };
        Some([side(0)?, side(1)?])
    }
}

impl Convolve {
    /// The words of input, weight and result.
    fn reach(&self) -> [(Words, usize); 3] {
        let Convolution { windows, outputs, .. } = self.convolution;
        let result = outputs * windows.batch * windows.output[0] * windows.output[1];
        let weight = self.convolution.weight().iter().product();
        [(self.x, windows.map(windows.input)), (self.w, weight), (self.y, result)]
    }

    /// Whether all are within their words.
    ///
    /// # Errors
    /// One that is not.
    pub fn check(&self) -> Result<()> {
        self.reach().into_iter().try_for_each(|(words, len)| words.part(0, len).map(drop))
    }

    /// The words of all, and whether they are written.
    pub(super) fn touches(&self) -> Vec<(Words, bool)> {
        let [x, w, y] = self.reach().map(|(words, len)| words.part(0, len).unwrap_or(words));
        vec![(x, self.way == Way::ToInput), (w, self.way == Way::ToWeight), (y, self.way == Way::Forward)]
    }
}

#[cfg(test)]
mod tests {
    use super::{Convolution, Windows};

    #[test]
    fn padding_is_that_of_both_sides() {
        let windows = Windows {
            channels: 4,
            batch: 2,
            input: [6, 7],
            output: [3, 4],
            kernel: [3; 2],
            stride: [2; 2],
            dilation: [1; 2],
            before: [1; 2],
        };
        let of = |windows| Convolution { windows, outputs: 2, groups: 1 }.padding();
        assert_eq!(of(windows), Some([1, 1]));
        // One more row than padding of one on both sides makes, windows that begin inside, and a kernel past the map.
        assert_eq!(of(Windows { output: [4, 4], ..windows }), None);
        assert_eq!(of(Windows { before: [-1, 1], ..windows }), None);
        assert_eq!(of(Windows { kernel: [9, 3], ..windows }), None);
    }
}
