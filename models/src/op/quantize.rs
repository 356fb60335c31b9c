//! Rounding to values of 8-bit integers.

use candle_core::Tensor;

use super::{OpContext, Payload, Shaped, one};
use crate::Result;
use crate::graph::Fact;

/// `(clamp(round(x / scale) + zero, low, high) - zero) * scale`, ties to even. It is the effect of ONNX's
/// QuantizeLinear followed by DequantizeLinear, for any shape. No gradient is propagated.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeQuantize {
    /// Distance between neighbouring values.
    pub scale: f32,
    /// Integer that represents 0.
    pub zero: i32,
    /// Whether the integers are int8; if not, they are uint8.
    pub signed: bool,
}

impl FakeQuantize {
    /// Returns a quantisation to uint8 whose 256 values cover `low..=high` and include 0.
    pub fn over(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        // An all-zero range needs a positive scale too.
        let scale = ((high - low) / 255.0).max(1e-12);
        let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0) as i32;
        FakeQuantize { scale, zero, signed: false }
    }

    /// Returns the smallest and the largest integer.
    pub fn bounds(&self) -> (i32, i32) {
        if self.signed { (-128, 127) } else { (0, 255) }
    }

    /// Rounds one value.
    pub fn round(&self, x: f32) -> f32 {
        let (low, high) = self.bounds();
        let integer = (x / self.scale).round_ties_even() + self.zero as f32;
        (integer.clamp(low as f32, high as f32) - self.zero as f32) * self.scale
    }
}

impl Payload for FakeQuantize {
    fn output(&self, inputs: &[&Fact]) -> Shaped {
        let (low, high) = self.bounds();
        if !(self.scale.is_normal() && self.scale > 0.0) {
            return Err(format!("its scale is {:e}, expected a positive number", self.scale));
        }
        if !(low..=high).contains(&self.zero) {
            return Err(format!("its zero point is {}, expected {low} to {high}", self.zero));
        }
        one(inputs).cloned()
    }

    fn run(&self, inputs: &[Tensor], _: &OpContext) -> Result<Tensor> {
        let x = inputs[0].detach();
        let mut numbers: Vec<f32> = x.flatten_all()?.to_vec1()?;
        numbers.iter_mut().for_each(|x| *x = self.round(*x));
        Ok(Tensor::from_vec(numbers, x.shape(), x.device())?)
    }

    fn text(&self) -> String {
        let kind = if self.signed { "int8" } else { "uint8" };
        format!("fake_quantize[{kind} scale {:e} zero {}]", self.scale, self.zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_even_and_saturates() {
        // The example of ONNX's QuantizeLinear: scale 2, zero point 128.
        let grid = FakeQuantize { scale: 2.0, zero: 128, signed: false };
        let found = [0.0, 2.0, 3.0, 1000.0, -254.0, -1000.0, 1.0].map(|x| grid.round(x));
        assert_eq!(found, [0.0, 2.0, 4.0, 254.0, -254.0, -256.0, 0.0]);
        let signed = FakeQuantize { scale: 1.0, zero: 1, signed: true };
        assert_eq!([-200.0, 200.0].map(|x| signed.round(x)), [-129.0, 126.0]);
    }

    #[test]
    fn a_range_holds_zero_and_its_ends() {
        for (low, high) in [(-1.0, 3.0), (0.0, 5.0), (2.0, 4.0), (-7.0, -1.0), (0.0, 0.0)] {
            let grid = FakeQuantize::over(low, high);
            assert_eq!(grid.round(0.0), 0.0);
            let near = |x: f32| (grid.round(x) - x).abs() <= 0.501 * grid.scale;
            assert!(near(low) && near(high), "{grid:?}");
        }
        assert_eq!(FakeQuantize::over(0.0, 5.0).zero, 0);
        assert!(
            FakeQuantize { scale: f32::NAN, zero: 0, signed: false }
                .output(&[&Fact::image(1, 1, 1)])
                .is_err()
        );
    }
}
