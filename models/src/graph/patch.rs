//! Changes of a graph: a patch builds the replacement beside it, then switches the wires at once.
//!
//! A patch *taps* wires of the graph, *wires* new nodes on them, *shunts* old wires to new ones, and is *applied*. A
//! shunt that would change a shape is rejected. Nodes that no result needs any more are removed with their weights,
//! so a new node may take the name of the one it replaces.

use std::collections::{HashMap, HashSet};

use candle_core::Tensor;

use super::{Fact, Graph, Node, Value};
use crate::op::Op;
use crate::{Error, Result, Weights};

/// A wire in a patch: of the graph, or of a node that the patch adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// A wire of the graph.
    Tap(Value),
    /// The output of the patch's node with this index.
    New(usize),
}

struct NewNode {
    node: Node,
    inputs: Vec<Wire>,
}

/// A change of a graph and its weights; see the module.
#[derive(Default)]
pub struct Patch {
    nodes: Vec<NewNode>,
    shunts: Vec<(Value, Wire)>,
    weights: Vec<(String, Tensor)>,
}

impl Patch {
    /// Returns a patch that only removes nodes that no result needs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an existing wire, for [`wire`](Self::wire) or [`shunt`](Self::shunt).
    pub fn tap(&self, value: Value) -> Wire {
        Wire::Tap(value)
    }

    fn fact<'a>(&'a self, graph: &'a Graph, wire: Wire) -> &'a Fact {
        match wire {
            Wire::Tap(v) => graph.fact(v),
            Wire::New(i) => &self.nodes[i].node.fact,
        }
    }

    /// Adds a node. Its parameters are named `node.role`, or as given in `params`.
    pub fn wire(
        &mut self,
        graph: &Graph,
        name: &str,
        op: impl Into<Op>,
        inputs: &[Wire],
        params: Option<Vec<String>>,
    ) -> Result<Wire> {
        let facts: Vec<&Fact> = inputs.iter().map(|w| self.fact(graph, *w)).collect();
        let node = Node::new(name.to_string(), op.into(), Vec::new(), &facts, params)?;
        self.nodes.push(NewNode { node, inputs: inputs.to_vec() });
        Ok(Wire::New(self.nodes.len() - 1))
    }

    /// Redirects every reader of `old`, and results at `old`, to `new`.
    ///
    /// # Errors
    /// [`Error::Graph`] if the shapes differ.
    pub fn shunt(&mut self, graph: &Graph, old: Value, new: Wire) -> Result<()> {
        let (before, after) = (graph.fact(old), self.fact(graph, new));
        if before != after {
            let problem = format!("a patch would change its shape from {before} to {after}");
            return Err(Error::Graph { node: graph.node(old).name.clone(), problem });
        }
        self.shunts.push((old, new));
        Ok(())
    }

    /// Sets the values of a parameter. An existing parameter is replaced.
    pub fn weight(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.weights.push((name.into(), tensor));
    }

    /// Changes `graph` and `weights`. On error both are unchanged.
    ///
    /// # Errors
    /// [`Error::Graph`] for a cycle or a name used twice, [`Error::Weights`] for a weight that is missing or has
    /// another shape. Debug builds also check every rule of [`Graph::check`].
    pub fn apply(self, graph: &mut Graph, weights: &mut Weights) -> Result<()> {
        let changed = self.merged(graph)?;
        if cfg!(debug_assertions) {
            changed.check()?;
        }
        let keep: HashSet<&str> = changed.params().map(|p| p.name.as_str()).collect();
        let mut after = weights.clone();
        for (name, tensor) in &self.weights {
            after.insert(name.clone(), tensor.clone())?;
        }
        after.retain(|name| keep.contains(name));
        after.check(&changed)?;
        (*graph, *weights) = (changed, after);
        Ok(())
    }

    /// Returns the patched graph without dead nodes, sorted so that each node follows the nodes that it reads.
    fn merged(&self, graph: &Graph) -> Result<Graph> {
        let old = graph.nodes.len();
        let place = |wire: Wire| match wire {
            Wire::Tap(v) => v.0,
            Wire::New(i) => old + i,
        };
        let shunts: HashMap<usize, usize> = self.shunts.iter().map(|(v, w)| (v.0, place(*w))).collect();
        // The patch's own nodes still read the old wire. This lets a patch wrap a node.
        let follow = |at: usize| shunts.get(&at).copied().unwrap_or(at);
        let inputs = |at: usize| -> Vec<usize> {
            match at.checked_sub(old) {
                Some(i) => self.nodes[i].inputs.iter().map(|w| place(*w)).collect(),
                None => graph.nodes[at].inputs.iter().map(|v| follow(v.0)).collect(),
            }
        };
        let roots: Vec<usize> = graph.inputs().map(|v| v.0).collect();
        let outputs: Vec<usize> = graph.outputs.iter().map(|(_, v)| follow(v.0)).collect();
        let order =
            topological(roots.into_iter().chain(outputs.iter().copied()), inputs, old + self.nodes.len())
                .map_err(|at| {
                    let node = if at < old { &graph.nodes[at] } else { &self.nodes[at - old].node };
                    Error::Graph {
                        node: node.name.clone(),
                        problem: "a patch would make it read itself".into(),
                    }
                })?;
        let moved: HashMap<usize, usize> = order.iter().enumerate().map(|(new, at)| (*at, new)).collect();
        let nodes = order.iter().map(|&at| {
            let node = if at < old { &graph.nodes[at] } else { &self.nodes[at - old].node };
            let inputs = inputs(at).iter().map(|i| Value(moved[i])).collect();
            Node { inputs, ..node.clone() }
        });
        let nodes = nodes.collect();
        let named = graph.outputs.iter().zip(&outputs);
        let outputs = named.map(|((name, _), at)| (name.clone(), Value(moved[at]))).collect();
        Ok(Graph { nodes, outputs })
    }
}

/// Returns the nodes that `roots` need, each after its inputs and close to the original order; `Err` is a node on a
/// cycle.
fn topological(
    roots: impl Iterator<Item = usize>,
    inputs: impl Fn(usize) -> Vec<usize>,
    places: usize,
) -> std::result::Result<Vec<usize>, usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; places];
    let mut order = Vec::new();
    for root in roots {
        let mut stack = vec![(root, false)];
        while let Some((at, children_done)) = stack.pop() {
            if children_done {
                marks[at] = Mark::Done;
                order.push(at);
                continue;
            }
            match marks[at] {
                Mark::Done => continue,
                Mark::Open => return Err(at),
                Mark::New => marks[at] = Mark::Open,
            }
            stack.push((at, true));
            for input in inputs(at).into_iter().rev() {
                match marks[input] {
                    Mark::Open => return Err(input),
                    Mark::New => stack.push((input, false)),
                    Mark::Done => {}
                }
            }
        }
    }
    Ok(order)
}
