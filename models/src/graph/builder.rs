//! Construction of a graph node by node, with name scopes, shape inference and checks.

use super::{Fact, Graph, Node, Value};
use crate::op::{Input, Op};
use crate::{Error, Result};

/// A graph under construction, with a current name scope.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    scope: Vec<String>,
    names: std::collections::HashSet<String>,
}

impl Builder {
    /// Returns an empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `body` with `name` appended to the name scope.
    pub fn scope<T>(&mut self, name: impl ToString, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.scope.push(name.to_string());
        let result = body(self);
        self.scope.pop();
        result
    }

    fn path(&self, name: &str) -> String {
        let parts = self.scope.iter().map(String::as_str).chain((!name.is_empty()).then_some(name));
        parts.collect::<Vec<_>>().join(".")
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, fact: Fact) -> Result<Value> {
        self.wire(name, Op::Input(Input { fact }), &[])
    }

    /// Adds a node. With an empty `name` it gets the scope's name.
    ///
    /// # Errors
    /// [`Error::Graph`] for a name that exists already, or inputs that the operation rejects.
    pub fn wire(&mut self, name: &str, op: impl Into<Op>, inputs: &[Value]) -> Result<Value> {
        self.wire_with(name, op, inputs, None)
    }

    /// Adds a node like [`wire`](Self::wire), with parameter names other than `node.role`.
    pub fn wire_with(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[Value],
        params: Option<Vec<String>>,
    ) -> Result<Value> {
        let name = self.path(name);
        if !self.names.insert(name.clone()) {
            return Err(Error::Graph { node: name, problem: "the name is taken".into() });
        }
        if let Some(bad) = inputs.iter().find(|v| v.0 >= self.graph.nodes.len()) {
            return Err(Error::Graph { node: name, problem: format!("input {} is not a wire", bad.0) });
        }
        let facts: Vec<&Fact> = inputs.iter().map(|v| self.graph.fact(*v)).collect();
        let node = Node::new(name, op.into(), inputs.to_vec(), &facts, params)?;
        self.graph.nodes.push(node);
        Ok(Value(self.graph.nodes.len() - 1))
    }

    /// Returns the shape of a wire.
    pub fn fact(&self, value: Value) -> &Fact {
        self.graph.fact(value)
    }

    /// Returns `(channels, height, width)` of a wire.
    ///
    /// # Errors
    /// [`Error::Graph`] for a wire that does not carry images.
    pub fn chw(&self, value: Value) -> Result<(usize, usize, usize)> {
        let node = self.graph.node(value);
        let problem = || format!("carries {}, an image [N, C, H, W] is needed", node.fact);
        node.fact.chw().ok_or_else(|| Error::Graph { node: node.name.clone(), problem: problem() })
    }

    /// Declares a wire as a result.
    pub fn output(&mut self, name: &str, value: Value) {
        self.graph.outputs.push((name.to_string(), value));
    }

    /// Checks and returns the graph.
    pub fn finish(self) -> Result<Graph> {
        self.graph.check()?;
        Ok(self.graph)
    }
}
