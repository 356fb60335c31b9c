//! Convolutions that a library of the device computes: dense and strided ones, for which this crate has no kernel.

use super::device::Words;
use super::windows::Windows;
use crate::Result;

/// A convolution of any kernel size, stride, dilation and number of groups, described by the windows over its input
/// `[channel][image][row][column]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Windows over the input.
    pub windows: Windows,
    /// Channels of the output.
    pub outputs: usize,
    /// Number of groups of channels that have weights of their own.
    pub groups: usize,
}

/// Operation of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Computes the output.
    Forward,
    /// Adds to the gradient of the input.
    ToInput,
    /// Computes the gradient of the weight.
    ToWeight,
}

/// A call of a convolution. It writes the tensor that `way` selects and reads the two others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convolve {
    /// Sizes of the convolution.
    pub convolution: Convolution,
    /// Operation to compute.
    pub way: Way,
    /// Input, or its gradient.
    pub x: Words,
    /// Weight `[output][input of a group][row][column]`, or its gradient.
    pub w: Words,
    /// Output `[output][image][row][column]`, or its gradient.
    pub y: Words,
}

impl Convolution {
    /// Shape of the weight.
    pub fn weight(&self) -> [usize; 4] {
        let [rows, columns] = self.windows.kernel;
        [self.outputs, self.windows.channels / self.groups, rows, columns]
    }

    /// Returns the padding if it is the same on both sides for this number of windows. cuDNN supports only such
    /// padding.
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
    /// Returns input, weight and output with the number of elements that each must have.
    fn reach(&self) -> [(Words, usize); 3] {
        let Convolution { windows, outputs, .. } = self.convolution;
        let result = outputs * windows.batch * windows.output[0] * windows.output[1];
        let weight = self.convolution.weight().iter().product();
        [(self.x, windows.map(windows.input)), (self.w, weight), (self.y, result)]
    }

    /// Checks that all tensors fit their memory.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if one does not.
    pub fn check(&self) -> Result<()> {
        self.reach().into_iter().try_for_each(|(words, len)| words.part(0, len).map(drop))
    }

    /// Returns the memory of all tensors, and whether it is written.
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
        // An output with one more row than padding of one on both sides gives, windows that begin inside, and a
        // kernel larger than the padded feature map.
        assert_eq!(of(Windows { output: [4, 4], ..windows }), None);
        assert_eq!(of(Windows { before: [-1, 1], ..windows }), None);
        assert_eq!(of(Windows { kernel: [9, 3], ..windows }), None);
    }
}
