//! Rewrites of a trained network that keep what it computes in evaluation.
//!
//! A pass finds one place where its algebra holds and returns a patch; the runner applies it and asks
//! again, until no pass finds anything. Which passes run, in which order, is what a [`Target`](crate::Target) says.

mod drop_identity;
mod drop_none;
mod fold_batch_norm;
mod join_reduction;
mod lower_batch_norm;
mod lower_global_pool;
mod lower_none;
mod lower_padding;
mod merge_equal;
mod pool_parts;
mod rectify_parts;
mod remove_dead;
mod split_batch_norm;
mod split_concat;
#[cfg(test)]
mod tests;

pub use drop_identity::DropIdentity;
pub use drop_none::DropNone;
pub use fold_batch_norm::FoldBatchNorm;
pub use join_reduction::JoinReduction;
pub use lower_batch_norm::LowerBatchNorm;
pub use lower_global_pool::LowerGlobalPool;
pub use lower_none::LowerNone;
pub use lower_padding::LowerPadding;
pub use merge_equal::MergeEqual;
pub use pool_parts::PoolParts;
pub use rectify_parts::RectifyParts;
pub use remove_dead::RemoveDead;
pub use split_batch_norm::SplitBatchNorm;
pub use split_concat::SplitConcat;

use candle_core::Tensor;
use milenas_models::graph::{Graph, Node, Patch, Value};
use milenas_models::op::{Op, ParamRole};
use milenas_models::{Result as Checked, Weights};

use crate::{Error, Result};

/// One kind of rewrite.
pub trait Pass: Sync {
    /// Its name in messages and on the command line.
    fn name(&self) -> &'static str;

    /// The first place where it applies, with the change; `None` when there is no such place.
    fn next(&self, graph: &Graph, weights: &Weights) -> Checked<Option<Rewrite>>;
}

/// A change that a pass proposes.
pub struct Rewrite {
    /// The node that is rewritten.
    pub at: String,
    /// The change.
    pub patch: Patch,
}

impl Rewrite {
    /// Readers of `old` read `new` instead.
    fn replace(graph: &Graph, old: Value, new: Value) -> Checked<Self> {
        let mut patch = Patch::new();
        let new = patch.tap(new);
        patch.shunt(graph, old, new)?;
        Ok(Rewrite { at: graph.node(old).name.clone(), patch })
    }
}

/// A patch that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPatch {
    /// From 1.
    pub number: usize,
    /// The pass.
    pub pass: &'static str,
    /// The node that was rewritten.
    pub at: String,
    /// Nodes of the graph afterwards.
    pub nodes: usize,
}

/// Applies `passes` in order, each until it finds nothing, and over again until none does or `most` patches
/// are applied. Returns how many were. Every applied patch is shown to `log`.
///
/// # Errors
/// A patch that is refused, labelled with pass, step and node; passes that undo each other. `graph` and
/// `weights` are then as they were before that patch.
pub fn run(
    passes: &[&dyn Pass],
    graph: &mut Graph,
    weights: &mut Weights,
    most: usize,
    log: &mut dyn FnMut(&AppliedPatch),
) -> Result<usize> {
    let endless = 100 + 10 * graph.nodes().len();
    let mut steps = 0;
    loop {
        let before = steps;
        for pass in passes {
            while steps < most {
                let (pass_name, step) = (pass.name(), steps + 1);
                let label = |at: &str| {
                    let at = at.to_string();
                    move |e| Error::Pass { pass: pass_name, step, at, source: Box::new(e) }
                };
                let Some(Rewrite { at, patch }) = pass.next(graph, weights).map_err(label(""))? else {
                    break;
                };
                if step > endless {
                    return Err(Error::Endless { pass: pass_name, steps });
                }
                patch.apply(graph, weights).map_err(label(&at))?;
                steps = step;
                log(&AppliedPatch { number: step, pass: pass_name, at, nodes: graph.nodes().len() });
            }
        }
        if steps == before {
            return Ok(steps);
        }
    }
}

/// How often each wire is read, by nodes and as a result.
struct Reads(Vec<usize>);

impl Reads {
    fn of(graph: &Graph) -> Self {
        let mut reads = vec![0; graph.nodes().len()];
        let results = graph.outputs().iter().map(|(_, v)| v);
        graph.nodes().iter().flat_map(|n| &n.inputs).chain(results).for_each(|v| reads[v.index()] += 1);
        Reads(reads)
    }

    /// Whether a wire with a known reader has no other.
    fn once(&self, value: Value) -> bool {
        self.0[value.index()] == 1
    }
}

/// Whether `new` can be a result where `old` is one: each result has a wire of its own, which is no input,
/// because ONNX names results by their wires.
fn can_stand_for(graph: &Graph, new: Value, old: Value) -> bool {
    !graph.is_output(old) || !(graph.is_output(new) || matches!(graph.node(new).op, Op::Input(_)))
}

/// `wish` with underscores until no node but `instead_of` has the name.
fn node_name(graph: &Graph, wish: &str, instead_of: &[&Node]) -> String {
    let taken = |name: &str| {
        graph.nodes().iter().any(|n| n.name == name && instead_of.iter().all(|old| old.name != n.name))
    };
    until_free(wish, taken)
}

/// `node.role` with underscores until no node but `instead_of` reads a parameter of that name.
fn param_name(graph: &Graph, node: &str, role: ParamRole, instead_of: &[&Node]) -> String {
    let others = |n: &&Node| instead_of.iter().all(|old| old.name != n.name);
    let taken =
        |name: &str| graph.nodes().iter().filter(others).flat_map(|n| &n.params).any(|p| p.name == name);
    until_free(&format!("{node}.{}", role.name()), taken)
}

fn until_free(wish: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut name = wish.to_string();
    while taken(&name) {
        name.push('_');
    }
    name
}

/// A node's parameter.
fn tensor<'a>(weights: &'a Weights, node: &Node, role: ParamRole) -> Checked<&'a Tensor> {
    let missing =
        || milenas_models::Error::Weights { problem: format!("`{}.{}` is missing", node.name, role.name()) };
    Ok(node.param(role).and_then(|name| weights.get(name)).ok_or_else(missing)?.as_tensor())
}

/// The numbers of a node's parameter.
pub(crate) fn numbers(weights: &Weights, node: &Node, role: ParamRole) -> Checked<Vec<f32>> {
    Ok(tensor(weights, node, role)?.flatten_all()?.to_vec1()?)
}
