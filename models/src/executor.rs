//! Execution of a graph on candle tensors, for training, for evaluation, and as the reference for every compiler
//! pass.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::graph::{Graph, Node, Value};
use crate::kernels::Implementation;
use crate::op::{Mode, Op, OpContext};
use crate::{Error, Result, Weights};

/// A graph with its weights, ready to run.
#[derive(Debug)]
pub struct Executor<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    form: Implementation,
    /// Number of readers of each wire. A wire's tensor is dropped after its last reader.
    reads: Vec<usize>,
    /// Factor of each wire in training.
    factors: HashMap<Value, Tensor>,
}

impl<'a> Executor<'a> {
    /// Returns an executor with optimised kernels.
    pub fn new(graph: &'a Graph, weights: &'a Weights) -> Self {
        let mut reads = vec![0; graph.nodes().len()];
        let results = graph.outputs().iter().map(|(_, v)| v);
        graph.nodes().iter().flat_map(|n| &n.inputs).chain(results).for_each(|v| reads[v.index()] += 1);
        Executor { graph, weights, form: Implementation::Optimised, reads, factors: HashMap::new() }
    }

    /// Returns this executor with the given implementation of every kernel.
    pub fn with_form(self, form: Implementation) -> Self {
        Executor { form, ..self }
    }

    /// Returns this executor with factors for some wires, which [`Mode::Train`] multiplies, as for drop path.
    pub fn with_factors(self, factors: HashMap<Value, Tensor>) -> Self {
        Executor { factors, ..self }
    }

    /// Returns the results in the order of [`Graph::outputs`], for inputs in the order of [`Graph::inputs`].
    ///
    /// [`Mode::Train`] records gradients and updates the running statistics of BatchNorm.
    ///
    /// # Errors
    /// [`Error::Graph`] with the node's name for an input of another shape or a failing operation, [`Error::Weights`]
    /// for a missing weight.
    pub fn run(&self, inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>> {
        self.run_observed(inputs, mode, &mut |_, _| {})
    }

    /// Runs the graph like [`run`](Self::run), and calls `observe` with each node's output.
    pub fn run_observed(
        &self,
        inputs: &[Tensor],
        mode: Mode,
        observe: &mut dyn FnMut(&Node, &Tensor),
    ) -> Result<Vec<Tensor>> {
        let mut fed = inputs.iter();
        let mut left = self.reads.clone();
        let mut wires: Vec<Option<Tensor>> = vec![None; left.len()];
        let mut batch = None;
        for (value, node) in self.graph.values() {
            let at = |problem: String| Error::Graph { node: node.name.clone(), problem };
            let tensor = match &node.op {
                Op::Input(input) => {
                    let x = fed.next().ok_or_else(|| at("no tensor was fed".into()))?;
                    let fits = input.fact.accepts(x.dims()) && x.dims().first().is_none_or(|n| *n > 0);
                    let same_batch = batch.is_none_or(|n| x.dims().first() == Some(&n));
                    if !fits || !same_batch {
                        return Err(at(format!("was fed {:?}, needs {}", x.dims(), input.fact)));
                    }
                    if input.fact.dims().first().is_some_and(|d| d.fixed().is_none()) {
                        batch = x.dims().first().copied();
                    }
                    if mode == Mode::Eval { x.detach() } else { x.clone() }
                }
                _ => {
                    let mut take = |v: &Value| {
                        left[v.index()] -= 1;
                        let wire = &mut wires[v.index()];
                        if left[v.index()] == 0 { wire.take() } else { wire.clone() }
                    };
                    let inputs: Option<Vec<Tensor>> = node.inputs.iter().map(&mut take).collect();
                    let inputs = inputs.ok_or_else(|| at("reads a wire that was dropped".into()))?;
                    let params: Vec<_> =
                        node.params.iter().map(|p| self.weights.require(&p.name)).collect::<Result<_>>()?;
                    let context = OpContext { mode, form: self.form, params: &params };
                    let made = node.op.run(&inputs, &context).map_err(|e| at(e.to_string()))?;
                    match self.factors.get(&value) {
                        Some(factor) if mode == Mode::Train => made.broadcast_mul(factor)?,
                        _ => made,
                    }
                }
            };
            observe(node, &tensor);
            wires[value.index()] = (left[value.index()] > 0).then_some(tensor);
        }
        let result = |(name, v): &(String, Value)| {
            wires[v.index()]
                .clone()
                .ok_or_else(|| Error::Graph { node: name.clone(), problem: "was dropped".into() })
        };
        self.graph.outputs().iter().map(result).collect()
    }
}
