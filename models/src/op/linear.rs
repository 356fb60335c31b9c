//! The fully connected layer.

use candle_core::Tensor;

use super::{Init, OpContext, ParamRole, ParamSpec, Payload, Shaped, one};
use crate::Result;
use crate::graph::{Dim, Fact};

/// `y = x W^T + b`: `[N, in] -> [N, out]` with weight `[out, in]` and an optional bias `[out]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Number of inputs.
    pub in_features: usize,
    /// Number of outputs.
    pub out_features: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Payload for Linear {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let x = one(inputs)?;
        match x.dims() {
            [n, Dim::Fixed(features)] if *features == self.in_features => {
                Ok(Fact::new(vec![*n, Dim::Fixed(self.out_features)]))
            }
            _ => Err(format!("reads {x}, needs [N, {}]", self.in_features)),
        }
    }

    fn params(&self) -> Vec<ParamSpec> {
        let init = Init::Uniform(1.0 / (self.in_features as f32).sqrt());
        let weight = ParamSpec::new(ParamRole::Weight, &[self.out_features, self.in_features], init);
        let bias = self.bias.then(|| ParamSpec::new(ParamRole::Bias, &[self.out_features], init));
        std::iter::once(weight).chain(bias).collect()
    }

    fn macs(&self, _: &Fact) -> u64 {
        self.in_features as u64 * self.out_features as u64
    }

    fn run(&self, inputs: &[Tensor], context: &OpContext) -> Result<Tensor> {
        let y = inputs[0].matmul(&context.param(0).t()?)?;
        match self.bias {
            true => Ok(y.broadcast_add(&context.param(1))?),
            false => Ok(y),
        }
    }

    fn text(&self) -> String {
        format!("linear[{}->{} bias {}]", self.in_features, self.out_features, self.bias)
    }
}
