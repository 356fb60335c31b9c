//! The closed set of operations: one payload a variant, one file a family.
//!
//! Matches on [`Op`] are exhaustive everywhere, so that a new operation is a list of compile errors.

mod batch_norm;
mod conv;
mod linear;
mod pointwise;
mod pool;
mod quantize;
mod shape;

use std::fmt;

use candle_core::{Tensor, Var};

pub use batch_norm::BatchNorm;
pub use conv::{Conv2d, Padding};
pub use linear::Linear;
pub use pointwise::{Add, Identity, Relu, Softmax, Zero};
pub use pool::{GlobalAvgPool, Pool2d, PoolKind};
pub use quantize::FakeQuantize;
pub use shape::{Concat, Flatten, Range, Slice};

use crate::Result;
use crate::graph::Fact;
use crate::kernels::Implementation;

/// A wire fed from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// What is fed.
    pub fact: Fact,
}

/// What a node computes. Images are `[N, C, H, W]`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Op {
    Input(Input),
    Conv2d(Conv2d),
    BatchNorm(BatchNorm),
    Pool2d(Pool2d),
    GlobalAvgPool(GlobalAvgPool),
    Linear(Linear),
    Relu(Relu),
    Add(Add),
    Concat(Concat),
    Slice(Slice),
    Flatten(Flatten),
    Softmax(Softmax),
    Identity(Identity),
    Zero(Zero),
    FakeQuantize(FakeQuantize),
}

/// What a parameter is to its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum ParamRole {
    Weight,
    Bias,
    RunningMean,
    RunningVar,
}

impl ParamRole {
    /// The last part of a parameter's name, as PyTorch has it.
    pub fn name(self) -> &'static str {
        match self {
            ParamRole::Weight => "weight",
            ParamRole::Bias => "bias",
            ParamRole::RunningMean => "running_mean",
            ParamRole::RunningVar => "running_var",
        }
    }

    /// Whether a gradient step changes it; statistics are moved by the forward pass.
    pub fn is_trainable(self) -> bool {
        matches!(self, ParamRole::Weight | ParamRole::Bias)
    }
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `[-bound, bound)`: PyTorch's default for convolutions and linear layers, `1/sqrt(fan_in)`.
    Uniform(f32),
    /// All the same.
    Constant(f32),
}

/// A parameter that an operation needs.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct ParamSpec {
    pub role: ParamRole,
    pub shape: Vec<usize>,
    pub init: Init,
}

impl ParamSpec {
    fn new(role: ParamRole, shape: &[usize], init: Init) -> Self {
        ParamSpec { role, shape: shape.to_vec(), init }
    }
}

/// Which statistics a BatchNorm uses, and whether gradients are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, which also move the running ones; gradients are recorded.
    Train,
    /// Running statistics; nothing is recorded.
    Eval,
}

/// What an operation runs with.
pub(crate) struct OpContext<'a> {
    pub(crate) mode: Mode,
    pub(crate) form: Implementation,
    /// In the order of [`Op::params`].
    pub(crate) params: &'a [&'a Var],
}

impl OpContext<'_> {
    /// The `i`-th parameter; in evaluation nothing of it is recorded.
    fn param(&self, i: usize) -> Tensor {
        match self.mode {
            Mode::Train => self.params[i].as_tensor().clone(),
            Mode::Eval => self.params[i].as_detached_tensor(),
        }
    }
}

type Shaped<T = Fact> = std::result::Result<T, String>;

fn one<'a>(inputs: &[&'a Fact]) -> Shaped<&'a Fact> {
    match inputs {
        [x] => Ok(x),
        _ => Err(format!("reads {} wires, needs 1", inputs.len())),
    }
}

fn image(x: &Fact) -> Shaped<(usize, usize, usize)> {
    x.chw().ok_or_else(|| format!("reads {x}, needs an image [N, C, H, W]"))
}

/// The size of one axis after a sliding window; `None` when the window does not fit.
fn window(size: usize, kernel: usize, stride: usize, pads: usize, dilation: usize) -> Option<usize> {
    let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    size.checked_add(pads)?.checked_sub(reach)?.checked_div(stride)?.checked_add(1)
}

/// Calls the same method of every payload.
macro_rules! each {
    ($op:expr, $x:ident => $body:expr) => {
        match $op {
            Op::Input($x) => $body,
            Op::Conv2d($x) => $body,
            Op::BatchNorm($x) => $body,
            Op::Pool2d($x) => $body,
            Op::GlobalAvgPool($x) => $body,
            Op::Linear($x) => $body,
            Op::Relu($x) => $body,
            Op::Add($x) => $body,
            Op::Concat($x) => $body,
            Op::Slice($x) => $body,
            Op::Flatten($x) => $body,
            Op::Softmax($x) => $body,
            Op::Identity($x) => $body,
            Op::Zero($x) => $body,
            Op::FakeQuantize($x) => $body,
        }
    };
}

/// What every payload says of itself.
trait Payload {
    /// The output's shape, or what is wrong with the inputs.
    fn output(&self, inputs: &[&Fact]) -> Shaped;
    fn run(&self, inputs: &[Tensor], context: &OpContext) -> Result<Tensor>;
    fn params(&self) -> Vec<ParamSpec> {
        Vec::new()
    }
    /// Multiply-accumulates for one image.
    fn macs(&self, _output: &Fact) -> u64 {
        0
    }
    /// Its name and attributes, for dumps.
    fn text(&self) -> String;
}

impl Payload for Input {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        if inputs.is_empty() { Ok(self.fact.clone()) } else { Err("an input reads nothing".into()) }
    }

    fn run(&self, _: &[Tensor], _: &OpContext) -> Result<Tensor> {
        Err(crate::Error::Graph { node: "input".into(), problem: "is fed, not run".into() })
    }

    fn text(&self) -> String {
        "input".into()
    }
}

impl Op {
    /// The shape of the output.
    ///
    /// # Errors
    /// What the operation needs and what it was given.
    pub fn output(&self, inputs: &[&Fact]) -> std::result::Result<Fact, String> {
        let fact = each!(self, x => x.output(inputs))?;
        match fact.volume() {
            Some(_) if fact.dims().iter().all(|d| d.fixed() != Some(0)) => Ok(fact),
            _ => Err(format!("its output would be {fact}")),
        }
    }

    /// The parameters it needs.
    pub fn params(&self) -> Vec<ParamSpec> {
        each!(self, x => x.params())
    }

    /// Multiply-accumulates for one image: those of convolutions and linear layers, as the literature counts.
    pub fn macs(&self, output: &Fact) -> u64 {
        each!(self, x => x.macs(output))
    }

    pub(crate) fn run(&self, inputs: &[Tensor], context: &OpContext) -> Result<Tensor> {
        each!(self, x => x.run(inputs, context))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&each!(self, x => x.text()))
    }
}

macro_rules! into_op {
    ($($name:ident)*) => {
        $(impl From<$name> for Op {
            fn from(payload: $name) -> Op {
                Op::$name(payload)
            }
        })*
    };
}

into_op!(Input Conv2d BatchNorm Pool2d GlobalAvgPool Linear Relu Add Concat Slice Flatten Softmax Identity Zero FakeQuantize);
