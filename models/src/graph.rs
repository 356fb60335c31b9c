//! The intermediate representation of a network: nodes in topological order, with one output wire each.
//!
//! A graph has no weights. Its parameters are names with shapes, bound to [`Weights`](crate::Weights) when it runs.
//! It is built with a [`Builder`] and changed only with a [`Patch`].

mod builder;
mod check;
mod dump;
mod fact;
mod patch;

pub use builder::Builder;
pub use fact::{Dim, Fact};
pub use patch::{Patch, Wire};

use crate::op::{Op, ParamRole};
use crate::{Error, Result};

/// The output wire of a node, identified by the node's index in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) usize);

impl Value {
    /// Returns the index of the node in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A named tensor that a node reads in addition to its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name in the weights, e.g. `cells.0.ops.1.3.running_mean`.
    pub name: String,
    /// Role in the operation.
    pub role: ParamRole,
    /// Shape of the tensor.
    pub shape: Vec<usize>,
}

/// An operation with its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name, unique in the graph: a dotted path, e.g. `cells.0.ops.1.2`.
    pub name: String,
    /// The operation.
    pub op: Op,
    /// The wires that it reads.
    pub inputs: Vec<Value>,
    /// The tensors that it reads, in the order of [`Op::params`].
    pub params: Vec<Param>,
    /// Shape of the output.
    pub fact: Fact,
}

impl Node {
    fn new(
        name: String,
        op: Op,
        inputs: Vec<Value>,
        facts: &[&Fact],
        params: Option<Vec<String>>,
    ) -> Result<Self> {
        let fact = op.output(facts).map_err(|problem| Error::Graph { node: name.clone(), problem })?;
        let specs = op.params();
        let names =
            params.unwrap_or_else(|| specs.iter().map(|s| format!("{name}.{}", s.role.name())).collect());
        if names.len() != specs.len() {
            let problem = format!("{} parameters named, {} needed", names.len(), specs.len());
            return Err(Error::Graph { node: name, problem });
        }
        let params = specs.into_iter().zip(names);
        let params = params.map(|(s, name)| Param { name, role: s.role, shape: s.shape }).collect();
        Ok(Node { name, op, inputs, params, fact })
    }

    /// Returns the name of the parameter with this role.
    pub fn param(&self, role: ParamRole) -> Option<&str> {
        self.params.iter().find(|p| p.role == role).map(|p| p.name.as_str())
    }
}

/// A network; see the [module](self).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    outputs: Vec<(String, Value)>,
}

impl Graph {
    /// Returns the nodes; each follows the nodes that it reads.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Iterates over the nodes with their output wires.
    pub fn values(&self) -> impl Iterator<Item = (Value, &Node)> {
        self.nodes.iter().enumerate().map(|(i, node)| (Value(i), node))
    }

    /// Returns the node that writes a wire.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.0]
    }

    /// Returns the shape of a wire.
    pub fn fact(&self, value: Value) -> &Fact {
        &self.node(value).fact
    }

    /// Iterates over the input wires, in order.
    pub fn inputs(&self) -> impl Iterator<Item = Value> + '_ {
        self.values().filter(|(_, n)| matches!(n.op, Op::Input(_))).map(|(v, _)| v)
    }

    /// Returns the named results.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// Iterates over the parameters in network order. A name that several nodes share appears once.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        let mut seen = std::collections::HashSet::new();
        self.nodes.iter().flat_map(|n| &n.params).filter(move |p| seen.insert(p.name.as_str()))
    }

    /// Returns the nodes that read a wire.
    pub fn consumers(&self, value: Value) -> Vec<Value> {
        self.values().filter(|(_, n)| n.inputs.contains(&value)).map(|(v, _)| v).collect()
    }

    /// Whether the wire is a named result.
    pub fn is_output(&self, value: Value) -> bool {
        self.outputs.iter().any(|(_, v)| *v == value)
    }
}
