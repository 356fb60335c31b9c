//! Moves a ReLU behind a concatenation to each of its parts. The producer of a part can then absorb the ReLU.
//! An edge of the same cell that reads the part after a ReLU can share it.

use milenas_models::graph::{Graph, Patch};
use milenas_models::op::{Concat, Op, Relu};
use milenas_models::{Result, Weights};

use super::{Pass, Rewrite, node_name};

/// Pass that applies ReLU before concatenations, see the module.
#[derive(Debug)]
pub struct PushReluIntoConcat;

impl Pass for PushReluIntoConcat {
    fn name(&self) -> &'static str {
        "push_relu_into_concat"
    }

    /// Rewrites `relu(concat(a, b)) -> concat(relu(a), relu(b))`, if only ReLUs read the concatenation.
    fn next(&self, graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
        for (value, concat) in graph.values() {
            let Op::Concat(Concat { .. }) = concat.op else { continue };
            let readers = graph.consumers(value);
            let all = readers.iter().all(|v| matches!(graph.node(*v).op, Op::Relu(_)));
            let (Some(relu), true, false) = (readers.first(), all, graph.is_output(value)) else { continue };
            let relu = graph.node(*relu);
            let mut patch = Patch::new();
            let mut parts = Vec::new();
            for (i, part) in concat.inputs.iter().enumerate() {
                let name = node_name(graph, &format!("{}.{i}", relu.name), &[]);
                let part = patch.tap(*part);
                parts.push(patch.wire(graph, &name, Relu, &[part], None)?);
            }
            let after = patch.wire(graph, &concat.name, concat.op.clone(), &parts, None)?;
            for reader in readers {
                patch.shunt(graph, reader, after)?;
            }
            return Ok(Some(Rewrite { at: concat.name.clone(), patch }));
        }
        Ok(None)
    }
}
