//! The closed set of operations, with one payload per variant and one file per family.
//!
//! Matches on [`Op`] are exhaustive everywhere, so a new operation gives a list of compile errors.

mod activation;
mod batch_norm;
mod conv;
mod linear;
mod pointwise;
mod pool;
mod quantize;
mod shape;

use std::fmt;

use candle_core::{Tensor, Var};

pub use activation::Activation;
pub use batch_norm::BatchNorm;
pub use conv::{Conv2d, Padding};
pub use linear::Linear;
pub use pointwise::{Add, Identity, Mul, Relu, Softmax, Zero};
pub use pool::{GlobalAvgPool, Pool2d, PoolKind};
pub use quantize::FakeQuantize;
pub use shape::{ChannelShuffle, Concat, Flatten, Range, Slice};

use crate::Result;
use crate::graph::Fact;
use crate::kernels::Implementation;

/// An input of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Shape of the input.
    pub fact: Fact,
}

/// Operation of a node. Images are `[N, C, H, W]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// An input of the network.
    Input(Input),
    /// A two-dimensional convolution.
    Conv2d(Conv2d),
    /// A batch normalisation.
    BatchNorm(BatchNorm),
    /// A pooling over windows.
    Pool2d(Pool2d),
    /// The mean over the image.
    GlobalAvgPool(GlobalAvgPool),
    /// A fully connected layer.
    Linear(Linear),
    /// ReLU.
    Relu(Relu),
    /// Another activation function.
    Activation(Activation),
    /// The sum of two wires.
    Add(Add),
    /// The product of two wires.
    Mul(Mul),
    /// A concatenation along an axis.
    Concat(Concat),
    /// A rectangular part of a wire.
    Slice(Slice),
    /// An exchange of channels between groups.
    ChannelShuffle(ChannelShuffle),
    /// A reshaping to two dimensions.
    Flatten(Flatten),
    /// A softmax along an axis.
    Softmax(Softmax),
    /// The identity.
    Identity(Identity),
    /// Zeros, with an optional stride.
    Zero(Zero),
    /// A rounding to 8-bit integers and back.
    FakeQuantize(FakeQuantize),
}

/// Role of a parameter in its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParamRole {
    /// The weight, a factor.
    Weight,
    /// The bias, an addend.
    Bias,
    /// The running mean of BatchNorm.
    RunningMean,
    /// The running variance of BatchNorm.
    RunningVar,
}

impl ParamRole {
    /// Returns the last part of a parameter's name, as in PyTorch.
    pub fn name(self) -> &'static str {
        match self {
            ParamRole::Weight => "weight",
            ParamRole::Bias => "bias",
            ParamRole::RunningMean => "running_mean",
            ParamRole::RunningVar => "running_var",
        }
    }

    /// Whether gradient steps change the parameter. The forward pass updates the statistics instead.
    pub fn is_trainable(self) -> bool {
        matches!(self, ParamRole::Weight | ParamRole::Bias)
    }
}

/// Initial value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `[-bound, bound)`: PyTorch's default for convolutions and linear layers, with bound
    /// `1/sqrt(fan_in)`.
    Uniform(f32),
    /// The same value for all elements.
    Constant(f32),
}

/// A parameter that an operation needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Role in the operation.
    pub role: ParamRole,
    /// Shape of the parameter.
    pub shape: Vec<usize>,
    /// Initial value.
    pub init: Init,
}

impl ParamSpec {
    fn new(role: ParamRole, shape: &[usize], init: Init) -> Self {
        ParamSpec { role, shape: shape.to_vec(), init }
    }
}

/// The statistics that BatchNorm uses, and whether gradients are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, which also update the running statistics; gradients are recorded.
    Train,
    /// Running statistics; gradients are not recorded.
    Eval,
}

/// Context in which an operation runs.
pub(crate) struct OpContext<'a> {
    pub(crate) mode: Mode,
    pub(crate) form: Implementation,
    /// Parameters, in the order of [`Op::params`].
    pub(crate) params: &'a [&'a Var],
}

impl OpContext<'_> {
    /// Returns the parameter with index `i`; in evaluation, without gradient.
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

/// Returns the size of one axis after a sliding window, or `None` if the window does not fit.
fn window(size: usize, kernel: usize, stride: usize, pads: usize, dilation: usize) -> Option<usize> {
    let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    size.checked_add(pads)?.checked_sub(reach)?.checked_div(stride)?.checked_add(1)
}

/// Evaluates an expression for the payload of any operation.
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
            Op::Activation($x) => $body,
            Op::Add($x) => $body,
            Op::Mul($x) => $body,
            Op::Concat($x) => $body,
            Op::Slice($x) => $body,
            Op::ChannelShuffle($x) => $body,
            Op::Flatten($x) => $body,
            Op::Softmax($x) => $body,
            Op::Identity($x) => $body,
            Op::Zero($x) => $body,
            Op::FakeQuantize($x) => $body,
        }
    };
}

/// Interface of the payloads.
trait Payload {
    /// Returns the shape of the output, or a description of the error in the inputs.
    fn output(&self, inputs: &[&Fact]) -> Shaped;
    fn run(&self, inputs: &[Tensor], context: &OpContext) -> Result<Tensor>;
    fn params(&self) -> Vec<ParamSpec> {
        Vec::new()
    }
    /// Number of multiply-accumulates for one image.
    fn macs(&self, _output: &Fact) -> u64 {
        0
    }
    /// Returns name and attributes, for dumps.
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
    /// Returns the shape of the output.
    ///
    /// # Errors
    /// A description of the required and the given inputs.
    pub fn output(&self, inputs: &[&Fact]) -> std::result::Result<Fact, String> {
        let fact = each!(self, x => x.output(inputs))?;
        match fact.volume() {
            Some(_) if fact.dims().iter().all(|d| d.fixed() != Some(0)) => Ok(fact),
            _ => Err(format!("its output would be {fact}")),
        }
    }

    /// Returns the parameters that the operation needs.
    pub fn params(&self) -> Vec<ParamSpec> {
        each!(self, x => x.params())
    }

    /// Number of multiply-accumulates for one image. Only convolutions and linear layers count, as in the literature.
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

into_op!(Input Conv2d BatchNorm Pool2d GlobalAvgPool Linear Relu Activation Add Mul Concat Slice ChannelShuffle Flatten Softmax Identity Zero FakeQuantize);
