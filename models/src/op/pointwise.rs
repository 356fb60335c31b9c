//! Elementwise operations, which keep the shape.

use candle_core::Tensor;

use super::{OpContext, Payload, Shaped, image, one};
use crate::graph::{Dim, Fact};
use crate::{Result, kernels};

/// `max(x, 0)`, with gradient 0 at 0 as in PyTorch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relu;

impl Payload for Relu {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        one(inputs).cloned()
    }

    fn run(&self, inputs: &[Tensor], context: &OpContext) -> Result<Tensor> {
        Ok(kernels::relu(&inputs[0], context.form)?)
    }

    fn text(&self) -> String {
        "relu".into()
    }
}

/// `a + b`, with dimensions of 1 broadcast as in NumPy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add;

fn broadcast(a: Dim, b: Dim) -> Option<Dim> {
    match (a, b) {
        _ if a == b => Some(a),
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Some(other),
        _ => None,
    }
}

/// Returns the shape of an elementwise operation of two wires, which `verb` names.
fn broadcast_both(inputs: &[&Fact], verb: &str) -> Shaped {
    let [a, b] = inputs else { return Err(format!("reads {} wires, needs 2", inputs.len())) };
    let rank = a.rank().max(b.rank());
    let padded = |x: &Fact| {
        let ones = std::iter::repeat_n(Dim::Fixed(1), rank - x.rank());
        ones.chain(x.dims().iter().copied()).collect::<Vec<_>>()
    };
    let dims = padded(a).into_iter().zip(padded(b)).map(|(a, b)| broadcast(a, b));
    let dims = dims.collect::<Option<Vec<_>>>();
    dims.map(Fact::new).ok_or_else(|| format!("cannot {verb} {a} and {b}"))
}

impl Payload for Add {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        broadcast_both(inputs, "add")
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        Ok(inputs[0].broadcast_add(&inputs[1])?)
    }

    fn text(&self) -> String {
        "add".into()
    }
}

/// `a * b`, with dimensions of 1 broadcast as in NumPy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mul;

impl Payload for Mul {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        broadcast_both(inputs, "multiply")
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        Ok(inputs[0].broadcast_mul(&inputs[1])?)
    }

    fn text(&self) -> String {
        "mul".into()
    }
}

/// `exp(x) / sum exp(x)` along an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis that sums to 1.
    pub axis: usize,
}

impl Payload for Softmax {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        if self.axis < x.rank() { Ok(x.clone()) } else { Err(format!("axis {} of {x}", self.axis)) }
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        let x = &inputs[0];
        let e = x.broadcast_sub(&x.max_keepdim(self.axis)?.detach())?.exp()?;
        Ok(e.broadcast_div(&e.sum_keepdim(self.axis)?)?)
    }

    fn text(&self) -> String {
        format!("softmax[axis {}]", self.axis)
    }
}

/// The identity, `x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity;

impl Payload for Identity {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        one(inputs).cloned()
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        Ok(inputs[0].clone())
    }

    fn text(&self) -> String {
        "identity".into()
    }
}

/// The DARTS primitive `none`: zeros, in the shape of every `stride`-th row and column:
/// `[N, C, H, W] -> [N, C, H', W']`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zero {
    /// Distance between the rows, and columns, that the output has.
    pub stride: usize,
}

impl Payload for Zero {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        let (_, height, width) = image(x)?;
        if self.stride == 0 {
            return Err("stride 0".into());
        }
        let mut dims = x.dims().to_vec();
        let sizes = [height.div_ceil(self.stride), width.div_ceil(self.stride)];
        dims.splice(2.., Fact::fixed(&sizes).dims().iter().copied());
        Ok(Fact::new(dims))
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        let x = &inputs[0];
        let (n, c, h, w) = x.dims4()?;
        Ok(Tensor::zeros((n, c, h.div_ceil(self.stride), w.div_ceil(self.stride)), x.dtype(), x.device())?)
    }

    fn text(&self) -> String {
        format!("zero[stride {}]", self.stride)
    }
}
