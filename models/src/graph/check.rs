//! Rules of a valid graph.

use std::collections::HashMap;

use super::{Fact, Graph, Value};
use crate::op::Op;
use crate::{Error, Result};

impl Graph {
    /// Checks all rules of the representation: inputs precede their readers, names are unique, shapes are those that
    /// the operations compute, parameters have the shapes that the operations need, parameters of the same name have
    /// the same shape, and results exist.
    ///
    /// # Errors
    /// [`Error::Graph`] with the first rule that is violated.
    pub fn check(&self) -> Result<()> {
        let mut names = HashMap::new();
        let mut shapes = HashMap::new();
        for (at, node) in self.values() {
            let fail = |problem: String| Err(Error::Graph { node: node.name.clone(), problem });
            if names.insert(node.name.as_str(), at).is_some() {
                return fail("the name is taken".into());
            }
            if let Some(bad) = node.inputs.iter().find(|v| **v >= at) {
                return fail(format!("reads node {}, which does not precede it", bad.index()));
            }
            let facts: Vec<&Fact> = node.inputs.iter().map(|v| self.fact(*v)).collect();
            let fact = node
                .op
                .output(&facts)
                .map_err(|problem| Error::Graph { node: node.name.clone(), problem })?;
            if fact != node.fact {
                return fail(format!("declared shape is {}, the operation returns {fact}", node.fact));
            }
            let specs = node.op.params();
            let same = specs.len() == node.params.len()
                && specs.iter().zip(&node.params).all(|(s, p)| s.role == p.role && s.shape == p.shape);
            if !same {
                return fail(format!("parameters {:?}, the operation needs {specs:?}", node.params));
            }
            for param in &node.params {
                let first = shapes.entry(param.name.as_str()).or_insert(&param.shape);
                if *first != &param.shape {
                    return fail(format!(
                        "`{}` has shape {:?} here, {first:?} before",
                        param.name, param.shape
                    ));
                }
            }
        }
        self.check_outputs()
    }

    fn check_outputs(&self) -> Result<()> {
        let fail =
            |node: &str, problem: &str| Err(Error::Graph { node: node.into(), problem: problem.into() });
        if self.outputs.is_empty() {
            return fail("", "the graph has no output");
        }
        for (i, (name, value)) in self.outputs.iter().enumerate() {
            if value.index() >= self.nodes.len() {
                return fail(name, "the output is not a wire");
            }
            if self.outputs[..i].iter().any(|(other, _)| other == name) {
                return fail(name, "the output's name is taken");
            }
        }
        Ok(())
    }

    /// Returns whether each node is needed for a result; inputs always are.
    pub fn live(&self) -> Vec<bool> {
        let mut live: Vec<bool> = self.nodes.iter().map(|n| matches!(n.op, Op::Input(_))).collect();
        for (_, Value(at)) in &self.outputs {
            live[*at] = true;
        }
        for at in (0..self.nodes.len()).rev().filter(|&i| live[i]).collect::<Vec<_>>() {
            self.mark(at, &mut live);
        }
        live
    }

    fn mark(&self, at: usize, live: &mut [bool]) {
        let mut stack = vec![at];
        while let Some(at) = stack.pop() {
            for v in &self.nodes[at].inputs {
                if !std::mem::replace(&mut live[v.0], true) {
                    stack.push(v.0);
                }
            }
        }
    }
}
