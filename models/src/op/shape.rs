//! Operations that move elements without changing them.

use candle_core::Tensor;

use super::{OpContext, Payload, Shaped, image, one};
use crate::Result;
use crate::graph::{Dim, Fact};

/// Concatenation of the inputs along an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}

impl Payload for Concat {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let first = inputs.first().ok_or("reads nothing")?;
        let mut dims = first.dims().to_vec();
        let mut total = 0usize;
        for x in inputs {
            let rest = |f: &Fact| {
                let mut dims = f.dims().to_vec();
                (self.axis < dims.len()).then(|| dims.remove(self.axis)).map(|d| (d, dims))
            };
            match (rest(x), rest(first)) {
                (Some((Dim::Fixed(n), a)), Some((_, b))) if a == b => total = total.saturating_add(n),
                _ => return Err(format!("cannot join {x} to {first} along axis {}", self.axis)),
            }
        }
        dims[self.axis] = Dim::Fixed(total);
        Ok(Fact::new(dims))
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        Ok(Tensor::cat(inputs, self.axis)?)
    }

    fn text(&self) -> String {
        format!("concat[axis {}]", self.axis)
    }
}

/// Range `start..end` of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The axis.
    pub axis: usize,
    /// First index.
    pub start: usize,
    /// Index after the last.
    pub end: usize,
}

/// A rectangular part of the input: ranges of some axes, all of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Ranges of the axes that are cut.
    pub ranges: Vec<Range>,
}

impl Payload for Slice {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        let mut dims = x.dims().to_vec();
        for Range { axis, start, end } in &self.ranges {
            match dims.get_mut(*axis) {
                Some(Dim::Fixed(n)) if start < end && end <= n => *n = end - start,
                _ => return Err(format!("{start}..{end} of axis {axis} of {x}")),
            }
        }
        Ok(Fact::new(dims))
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        let mut x = inputs[0].clone();
        for Range { axis, start, end } in &self.ranges {
            x = x.narrow(*axis, *start, end - start)?;
        }
        Ok(x.contiguous()?)
    }

    fn text(&self) -> String {
        let ranges = self.ranges.iter().map(|r| format!("axis {} {}..{}", r.axis, r.start, r.end));
        format!("slice[{}]", ranges.collect::<Vec<_>>().join(", "))
    }
}

/// Exchange of channels between groups (ShuffleNet, Zhang et al., CVPR 2018): channel `g * n + i` of the `n` channels of group `g`
/// becomes channel `i * groups + g`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelShuffle {
    /// Number of groups, a divisor of the channels.
    pub groups: usize,
}

impl Payload for ChannelShuffle {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        let (channels, ..) = image(x)?;
        match self.groups > 0 && channels.is_multiple_of(self.groups) {
            true => Ok(x.clone()),
            false => Err(format!("{} groups of {channels} channels", self.groups)),
        }
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        let (n, c, h, w) = inputs[0].dims4()?;
        let grouped = inputs[0].reshape((n, self.groups, c / self.groups, h * w))?;
        Ok(grouped.transpose(1, 2)?.contiguous()?.reshape((n, c, h, w))?)
    }

    fn text(&self) -> String {
        format!("channel shuffle[{} groups]", self.groups)
    }
}

/// Reshaping to two dimensions: those before `axis`, and those from it on. For `axis` 1 it is
/// `[a, b, c, d] -> [a, b*c*d]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flatten {
    /// First axis of the second dimension.
    pub axis: usize,
}

impl Payload for Flatten {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        let product = |dims: &[Dim]| {
            let sizes: Option<Vec<usize>> = dims.iter().map(|d| d.fixed()).collect();
            sizes.and_then(|s| s.into_iter().try_fold(1usize, usize::checked_mul))
        };
        let (head, tail) =
            x.dims().split_at_checked(self.axis).ok_or(format!("axis {} of {x}", self.axis))?;
        let head = match head {
            [Dim::Batch] => Some(Dim::Batch),
            _ => product(head).map(Dim::Fixed),
        };
        match (head, product(tail)) {
            (Some(head), Some(tail)) => Ok(Fact::new(vec![head, Dim::Fixed(tail)])),
            _ => Err(format!(
                "cannot flatten {x} at axis {}: the batch would mix with other dimensions",
                self.axis
            )),
        }
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        let x = &inputs[0];
        let head: usize = x.dims()[..self.axis].iter().product();
        Ok(x.reshape((head, ()))?)
    }

    fn text(&self) -> String {
        format!("flatten[axis {}]", self.axis)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::graph::Builder;
    use crate::{Executor, Mode, Weights};

    #[test]
    fn channels_are_exchanged_between_groups() {
        let mut b = Builder::new();
        let x = b.input("x", Fact::image(6, 1, 2)).unwrap();
        let y = b.wire("y", ChannelShuffle { groups: 2 }, &[x]).unwrap();
        b.output("y", y);
        let graph = b.finish().unwrap();
        let input = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((1, 6, 1, 2)).unwrap();
        let found = Executor::new(&graph, &Weights::default()).run(&[input], Mode::Eval).unwrap().remove(0);
        let first: Vec<f32> = found.narrow(3, 0, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(first, [0.0, 6.0, 2.0, 8.0, 4.0, 10.0]);
        let mut b = Builder::new();
        let x = b.input("x", Fact::image(6, 1, 2)).unwrap();
        assert!(b.wire("y", ChannelShuffle { groups: 4 }, &[x]).is_err());
        assert!(b.wire("y", ChannelShuffle { groups: 0 }, &[x]).is_err());
    }
}
