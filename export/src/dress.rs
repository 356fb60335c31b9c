//! What a file takes and gives besides the network itself: bytes in, probabilities out, a batch of one size.

use candle_core::{Device, Tensor};
use milenas_models::graph::{Builder, Dim, Fact, Graph, Value};
use milenas_models::op::{Conv2d, Input, Op, Softmax};
use milenas_models::{InputContract, Weights};

use crate::Result;
use crate::verify::Network;

/// What is put around a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dress {
    /// The input holds the values of bytes, 0 to 255, and this contract's scale is part of the network.
    pub bytes: Option<InputContract>,
    /// The result is softmax of the logits, by the name `probabilities`.
    pub probabilities: bool,
    /// The one size of a batch; any without it.
    pub batch: Option<usize>,
}

impl Dress {
    /// The network as it is to be written; that of no dress is a copy.
    ///
    /// # Errors
    /// A contract of other channels than the input has.
    pub fn around(&self, network: Network) -> Result<(Graph, Weights)> {
        let mut b = Builder::new();
        let mut weights = network.weights.clone();
        let mut wires: Vec<Value> = Vec::with_capacity(network.graph.nodes().len());
        for node in network.graph.nodes() {
            let inputs: Vec<Value> = node.inputs.iter().map(|v| wires[v.index()]).collect();
            let params = node.params.iter().map(|p| p.name.clone()).collect();
            let wire = match &node.op {
                Op::Input(Input { fact }) => {
                    let input = b.input(&node.name, self.sized(fact))?;
                    self.scale(&mut b, &mut weights, input)?
                }
                op => b.wire_with(&node.name, op.clone(), &inputs, Some(params))?,
            };
            wires.push(wire);
        }
        for (name, value) in network.graph.outputs() {
            let value = wires[value.index()];
            if self.probabilities && name == "logits" {
                let axis = b.fact(value).rank().saturating_sub(1);
                let softmax = b.wire("probabilities", Softmax { axis }, &[value])?;
                b.output("probabilities", softmax);
            } else {
                b.output(name, value);
            }
        }
        Ok((b.finish()?, weights))
    }

    fn sized(&self, fact: &Fact) -> Fact {
        let dim = |d: &Dim| match (d, self.batch) {
            (Dim::Batch, Some(n)) => Dim::Fixed(n),
            _ => *d,
        };
        Fact::new(fact.dims().iter().map(dim).collect())
    }

    /// `(x / 255 - mean) / std` as a convolution of one number a channel: `x * 1/(255 std) - mean/std`. It
    /// cannot go into the next one, whose padding is 0 after the scale.
    fn scale(&self, b: &mut Builder, weights: &mut Weights, input: Value) -> Result<Value> {
        let Some(contract) = &self.bytes else { return Ok(input) };
        let channels = contract.channels;
        let conv = Conv2d { bias: true, ..Conv2d::depthwise(channels, 1, 1, 1) };
        let scaled = b.wire("normalise", conv, &[input])?;
        let pairs = || contract.mean.iter().zip(&contract.std).map(|(m, s)| (f64::from(*m), f64::from(*s)));
        let factor: Vec<f32> = pairs().map(|(_, std)| (1.0 / (255.0 * std)) as f32).collect();
        let term: Vec<f32> = pairs().map(|(mean, std)| (-mean / std) as f32).collect();
        let tensor = |numbers: Vec<f32>, shape: &[usize]| {
            Tensor::from_vec(numbers, shape, &Device::Cpu).map_err(milenas_models::Error::from)
        };
        weights.insert("normalise.weight", tensor(factor, &[channels, 1, 1, 1])?)?;
        weights.insert("normalise.bias", tensor(term, &[channels])?)?;
        Ok(scaled)
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::input::Resize;
    use milenas_models::{Executor, Mode};

    use super::*;
    use crate::testing::{derived, genotype, weights};

    #[test]
    fn bytes_and_probabilities_are_what_the_contract_and_the_formula_say() {
        let graph = derived(&genotype(3), 2);
        let numbers = weights(&graph, 1);
        let input = graph.inputs().next().unwrap();
        let (channels, height, width) = graph.fact(input).chw().unwrap();
        let contract = InputContract {
            height,
            width,
            channels,
            mean: vec![0.3, 0.5, 0.6],
            std: vec![0.2, 0.25, 0.3],
            resize: Resize::Stretch,
            background: None,
        };
        let dress = Dress { bytes: Some(contract.clone()), probabilities: true, batch: Some(1) };
        let (dressed, with) = dress.around(Network { graph: &graph, weights: &numbers }).unwrap();
        let bytes: Vec<u8> = (0..contract.len()).map(|i| (i * 37 % 256) as u8).collect();
        let mut planes = vec![0.0; bytes.len()];
        contract.normalise(&bytes, &mut planes);
        let mut raw = vec![0.0; bytes.len()];
        for (i, byte) in bytes.iter().enumerate() {
            raw[i % channels * height * width + i / channels] = f32::from(*byte);
        }
        let tensor = |x| Tensor::from_vec(x, (1, channels, height, width), &Device::Cpu).unwrap();
        let run = |g, w, x| Executor::new(g, w).run(&[tensor(x)], Mode::Eval).unwrap().remove(0);
        let logits = run(&graph, &numbers, planes).to_vec2::<f32>().unwrap().remove(0);
        let found = run(&dressed, &with, raw).to_vec2::<f32>().unwrap().remove(0);
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = logits.iter().map(|x| (x - most).exp()).sum();
        for (x, p) in logits.iter().zip(found) {
            assert!(((x - most).exp() / sum - p).abs() < 1e-4, "{p}");
        }
        assert_eq!(dressed.outputs()[0].0, "probabilities");
        assert_eq!(dressed.fact(dressed.inputs().next().unwrap()).dims()[0], Dim::Fixed(1));
    }
}
