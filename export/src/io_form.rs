//! Input and output form of a file around its network: uint8 input, probabilities as output, fixed batch
//! size.

use candle_core::{Device, Tensor};
use milenas_models::graph::{Builder, Dim, Fact, Graph, Node, Patch, Value};
use milenas_models::op::{Conv2d, Input, Op, ParamRole, Softmax};
use milenas_models::{InputContract, Weights};

use crate::Result;
use crate::verify::NetworkRef;

/// Form of a file's input and output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IoForm {
    /// Input contract of a uint8 input (0 to 255). Its normalisation becomes part of the network. `None` for
    /// float32.
    pub bytes: Option<InputContract>,
    /// True if the output is the softmax of the logits, named `probabilities`.
    pub probabilities: bool,
    /// Fixed batch size; `None` for any.
    pub batch: Option<usize>,
}

impl IoForm {
    /// Returns a copy of the network in this form: with normalisation before it and softmax behind it, as
    /// requested.
    ///
    /// # Errors
    /// [`milenas_models::Error::Graph`] if contract and input differ in the number of channels.
    pub fn wrap(&self, network: NetworkRef) -> Result<(Graph, Weights)> {
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

    /// Adds `(x / 255 - mean) / std` as a depthwise 1x1 convolution: `x * 1/(255 std) - mean/std`. The next
    /// convolution cannot absorb it, because that convolution pads with 0 after normalisation.
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

/// Removes normalisation and softmax from a network, for a runtime that computes both itself. `bytes` is the
/// contract of a file with uint8 input: its mean and standard deviation are set from the removed convolution.
/// The output becomes the logits.
///
/// # Errors
/// Returns an error if the patch is refused.
pub fn unwrap_io(graph: &mut Graph, weights: &mut Weights, bytes: Option<&mut InputContract>) -> Result<()> {
    let mut patch = Patch::new();
    if let (Some(contract), Some((input, scale))) = (bytes, scale_of(graph)) {
        let node = graph.node(scale);
        let numbers = |role| -> Result<Vec<f64>> {
            let found = node.param(role).and_then(|name| weights.get(name));
            let numbers = found.map(|x| x.flatten_all().and_then(|x| x.to_vec1::<f32>())).transpose();
            let numbers = numbers.map_err(milenas_models::Error::from)?.unwrap_or_default();
            Ok(numbers.into_iter().map(f64::from).collect())
        };
        let (factor, term) = (numbers(ParamRole::Weight)?, numbers(ParamRole::Bias)?);
        // A factor that is zero or not finite gives no standard deviation.
        if factor.len() == contract.channels && factor.iter().all(|x| x.is_normal()) {
            contract.std = factor.iter().map(|x| (1.0 / (255.0 * x)) as f32).collect();
            contract.mean = factor.iter().zip(&term).map(|(x, t)| (-t / (255.0 * x)) as f32).collect();
            patch.shunt(graph, scale, patch.tap(input))?;
        }
    }
    if let [(_, output)] = *graph.outputs()
        && let Node { op: Op::Softmax(Softmax { axis: 1 }), inputs, .. } = graph.node(output)
    {
        patch.shunt(graph, output, patch.tap(inputs[0]))?;
    }
    Ok(patch.apply(graph, weights)?)
}

/// Returns the input and its normalising convolution, if that convolution is the only reader of the input.
fn scale_of(graph: &Graph) -> Option<(Value, Value)> {
    let input = graph.inputs().next()?;
    let [scale] = graph.consumers(input)[..] else { return None };
    let channels = graph.fact(input).chw()?.0;
    let expected = Conv2d { bias: true, ..Conv2d::depthwise(channels, 1, 1, 1) };
    matches!(&graph.node(scale).op, Op::Conv2d(found) if *found == expected).then_some((input, scale))
}

#[cfg(test)]
mod tests {
    use milenas_models::input::{ImageSize, Resize};
    use milenas_models::{Executor, Mode};

    use super::*;
    use crate::testing::{derived, genotype, weights};

    #[test]
    fn bytes_and_probabilities_are_what_the_contract_and_the_formula_say() {
        let graph = derived(&genotype(3), 2);
        let numbers = weights(&graph, 1);
        let input = graph.inputs().next().unwrap();
        let (channels, height, width) = graph.fact(input).chw().unwrap();
        let contract = InputContract::new(
            ImageSize { height, width },
            channels,
            vec![0.3, 0.5, 0.6],
            vec![0.2, 0.25, 0.3],
            Resize::Stretch,
        );
        let io = IoForm { bytes: Some(contract.clone()), probabilities: true, batch: Some(1) };
        let (wrapped, with) = io.wrap(NetworkRef { graph: &graph, weights: &numbers }).unwrap();
        let bytes: Vec<u8> = (0..contract.len()).map(|i| (i * 37 % 256) as u8).collect();
        let mut planes = vec![0.0; bytes.len()];
        contract.normalise(&bytes, &mut planes);
        let mut raw = vec![0.0; bytes.len()];
        contract.of_bytes().normalise(&bytes, &mut raw);
        let tensor = |x| Tensor::from_vec(x, (1, channels, height, width), &Device::Cpu).unwrap();
        let run = |g, w, x| Executor::new(g, w).run(&[tensor(x)], Mode::Eval).unwrap().remove(0);
        let logits = run(&graph, &numbers, planes).to_vec2::<f32>().unwrap().remove(0);
        let found = run(&wrapped, &with, raw).to_vec2::<f32>().unwrap().remove(0);
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = logits.iter().map(|x| (x - most).exp()).sum();
        for (x, p) in logits.iter().zip(found) {
            assert!(((x - most).exp() / sum - p).abs() < 1e-4, "{p}");
        }
        assert_eq!(wrapped.outputs()[0].0, "probabilities");
        let (mut plain, mut own) = (wrapped.clone(), with);
        let mut found = contract.of_bytes();
        unwrap_io(&mut plain, &mut own, Some(&mut found)).unwrap();
        assert_eq!(plain.nodes().len(), graph.nodes().len());
        for (a, b) in found.mean.iter().chain(&found.std).zip(contract.mean.iter().chain(&contract.std)) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
        assert_eq!(wrapped.fact(wrapped.inputs().next().unwrap()).dims()[0], Dim::Fixed(1));
    }
}
