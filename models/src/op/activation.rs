//! Activation functions other than ReLU, which keep the shape.

use candle_core::Tensor;

use super::{OpContext, Payload, Shaped, one};
use crate::Result;
use crate::graph::Fact;

/// Activation function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `min(max(x, min), max)`; ReLU6 with 0 and 6.
    Clip {
        /// Smallest result.
        min: f32,
        /// Largest result, at least `min`.
        max: f32,
    },
    /// `x` for positive `x`, else `slope * x`.
    LeakyRelu {
        /// Slope for negative values.
        slope: f32,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `min(max(slope * x + offset, 0), 1)`.
    HardSigmoid {
        /// Slope between the bounds.
        slope: f32,
        /// Result at 0.
        offset: f32,
    },
    /// `x * min(max(x / 6 + 1/2, 0), 1)` (Howard et al., ICCV 2019, section 5.2).
    HardSwish,
    /// `tanh(x)`.
    Tanh,
}

impl Activation {
    /// ReLU6 (Howard et al., 2017).
    pub const RELU6: Activation = Activation::Clip { min: 0.0, max: 6.0 };

    /// Returns the result for one value.
    pub fn value(self, x: f32) -> f32 {
        match self {
            Activation::Clip { min, max } => x.max(min).min(max),
            Activation::LeakyRelu { slope } => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::HardSigmoid { slope, offset } => (slope * x + offset).clamp(0.0, 1.0),
            Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Activation::Tanh => x.tanh(),
        }
    }
}

impl Payload for Activation {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        match self {
            Activation::Clip { min, max } if min > max || min.is_nan() || max.is_nan() => {
                Err(format!("clips to {min}..{max}, needs a lower bound below the upper one"))
            }
            _ => one(inputs).cloned(),
        }
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        let x = &inputs[0];
        let hard = |slope: f32, offset: f32| x.affine(slope.into(), offset.into())?.clamp(0f32, 1f32);
        Ok(match *self {
            Activation::Clip { min, max } => x.clamp(min, max)?,
            Activation::LeakyRelu { slope } => (x.relu()? - (x.neg()?.relu()? * f64::from(slope))?)?,
            Activation::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip()?,
            Activation::HardSigmoid { slope, offset } => hard(slope, offset)?,
            Activation::HardSwish => (x * hard(1.0 / 6.0, 0.5)?)?,
            Activation::Tanh => x.tanh()?,
        })
    }

    fn text(&self) -> String {
        match self {
            Activation::Clip { min, max } => format!("clip[{min}..{max}]"),
            Activation::LeakyRelu { slope } => format!("leaky relu[{slope}]"),
            Activation::Sigmoid => "sigmoid".into(),
            Activation::HardSigmoid { slope, offset } => format!("hard sigmoid[{slope} x + {offset}]"),
            Activation::HardSwish => "hard swish".into(),
            Activation::Tanh => "tanh".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::graph::Builder;
    use crate::{Executor, Mode, Weights};

    const ALL: [Activation; 7] = [
        Activation::RELU6,
        Activation::Clip { min: -0.5, max: f32::MAX },
        Activation::LeakyRelu { slope: 0.1 },
        Activation::Sigmoid,
        Activation::HardSigmoid { slope: 0.2, offset: 0.5 },
        Activation::HardSwish,
        Activation::Tanh,
    ];

    /// The executor agrees with the formula of one value, and with values by hand.
    #[test]
    fn functions_have_their_values() {
        for (activation, at_minus_one, at_two, at_nine) in [
            (Activation::RELU6, 0.0, 2.0, 6.0),
            (Activation::LeakyRelu { slope: 0.1 }, -0.1, 2.0, 9.0),
            (Activation::Sigmoid, 0.268_941_43, 0.880_797_1, 0.999_876_6),
            (Activation::HardSigmoid { slope: 0.2, offset: 0.5 }, 0.3, 0.9, 1.0),
            (Activation::HardSwish, -1.0 / 3.0, 5.0 / 3.0, 9.0),
            (Activation::Tanh, -0.761_594_2, 0.964_027_6, 1.0),
        ] {
            for (x, expected) in [(-1.0, at_minus_one), (2.0, at_two), (9.0, at_nine)] {
                assert!((activation.value(x) - expected).abs() < 1e-6, "{activation:?} {x}");
            }
        }
        let values: Vec<f32> = (-40..=40).map(|i| i as f32 / 4.0).collect();
        for activation in ALL {
            let mut b = Builder::new();
            let x = b.input("x", Fact::fixed(&[1, values.len(), 1, 1])).unwrap();
            let y = b.wire("y", activation, &[x]).unwrap();
            b.output("y", y);
            let graph = b.finish().unwrap();
            let input = Tensor::from_slice(&values, (1, values.len(), 1, 1), &Device::Cpu).unwrap();
            let found =
                Executor::new(&graph, &Weights::default()).run(&[input], Mode::Eval).unwrap().remove(0);
            let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
            for (x, y) in values.iter().zip(found) {
                assert!((y - activation.value(*x)).abs() < 1e-6, "{activation:?} {x}: {y}");
            }
        }
    }

    #[test]
    fn bounds_in_the_wrong_order_are_refused() {
        let mut b = Builder::new();
        let x = b.input("x", Fact::fixed(&[1, 2])).unwrap();
        let message = b.wire("y", Activation::Clip { min: 1.0, max: 0.0 }, &[x]).unwrap_err().to_string();
        assert!(message.contains("needs a lower bound below the upper one"), "{message}");
    }
}
