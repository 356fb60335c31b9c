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
    /// Weights of wires in every mode; `None` for a wire that is skipped.
    choices: HashMap<Value, Option<Tensor>>,
}

impl<'a> Executor<'a> {
    /// Returns an executor with optimised kernels.
    pub fn new(graph: &'a Graph, weights: &'a Weights) -> Self {
        let mut reads = vec![0; graph.nodes().len()];
        let results = graph.outputs().iter().map(|(_, v)| v);
        graph.nodes().iter().flat_map(|n| &n.inputs).chain(results).for_each(|v| reads[v.index()] += 1);
        let (factors, choices) = (HashMap::new(), HashMap::new());
        Executor { graph, weights, form: Implementation::Optimised, reads, factors, choices }
    }

    /// Returns this executor with the given implementation of every kernel.
    pub fn with_form(self, form: Implementation) -> Self {
        Executor { form, ..self }
    }

    /// Returns this executor with factors for some wires, which [`Mode::Train`] multiplies, as for drop path.
    pub fn with_factors(self, factors: HashMap<Value, Tensor>) -> Self {
        Executor { factors, ..self }
    }

    /// Returns this executor with weights of some wires of a supernet. A wire with weight `None` is not computed, and sums
    /// omit it.
    pub fn with_choices(self, choices: HashMap<Value, Option<Tensor>>) -> Self {
        Executor { choices, ..self }
    }

    /// Returns whether each node is computed: some result needs it.
    fn computed(&self) -> Vec<bool> {
        let skipped = |value: Value| self.choices.get(&value).is_some_and(Option::is_none);
        let mut needed = vec![false; self.graph.nodes().len()];
        self.graph.outputs().iter().for_each(|(_, value)| needed[value.index()] = true);
        let nodes: Vec<(Value, &Node)> = self.graph.values().collect();
        for (value, node) in nodes.into_iter().rev() {
            needed[value.index()] &= !skipped(value);
            if needed[value.index()] {
                node.inputs.iter().for_each(|input| needed[input.index()] = true);
            }
            needed[value.index()] |= matches!(node.op, Op::Input(_));
        }
        needed
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
        let computed = self.computed();
        for (value, node) in self.graph.values().filter(|(value, _)| computed[value.index()]) {
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
                    let mut inputs: Vec<Tensor> = node.inputs.iter().filter_map(&mut take).collect();
                    let missing = node.inputs.len() - inputs.len();
                    let made = match &node.op {
                        // A sum omits skipped terms.
                        Op::Add(_) if missing > 0 && !self.choices.is_empty() => match inputs.pop() {
                            Some(term) => term,
                            None => continue,
                        },
                        _ if missing > 0 => return Err(at("reads a wire that was dropped".into())),
                        op => {
                            let params = node.params.iter().map(|p| self.weights.require(&p.name));
                            let params = params.collect::<Result<Vec<_>>>()?;
                            let context = OpContext { mode, form: self.form, params: &params };
                            op.run(&inputs, &context).map_err(|e| at(e.to_string()))?
                        }
                    };
                    match (self.factors.get(&value), self.choices.get(&value)) {
                        (Some(factor), _) if mode == Mode::Train => made.broadcast_mul(factor)?,
                        (_, Some(Some(weight))) => made.broadcast_mul(weight)?,
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
