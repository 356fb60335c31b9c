//! Operations that move elements without changing them.

use candle_core::Tensor;

use super::{OpContext, Payload, Shaped, one};
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
