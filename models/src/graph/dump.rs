//! A graph as stable text, for golden files, `inspect` and debugging.

use std::fmt;

use super::Graph;

impl fmt::Display for Graph {
    /// Writes one line per node, `name = operation(inputs) -> shape`, then the outputs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            let inputs: Vec<&str> = node.inputs.iter().map(|v| self.node(*v).name.as_str()).collect();
            writeln!(f, "{} = {}({}) -> {}", node.name, node.op, inputs.join(", "), node.fact)?;
        }
        for (name, value) in &self.outputs {
            writeln!(f, "output {name} = {}", self.node(*value).name)?;
        }
        Ok(())
    }
}
