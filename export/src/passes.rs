//! Passes that rewrite a trained network and keep its results in evaluation.
//!
//! A pass finds one position in the graph where its rewrite applies and returns a patch. [`run`] applies the
//! patch and asks again, until no pass finds anything.
//!
//! A pass is one file with a function `next` and an example of a graph on which it fires, and one row of the table
//! below. A [`Target`] selects its passes from the table.

#[cfg(test)]
mod tests;

use candle_core::Tensor;
use milenas_models::graph::{Graph, Node, Patch, Value};
use milenas_models::op::{Op, ParamRole};
use milenas_models::{Result as Checked, Weights};

use crate::{Error, Result, Target};

/// Kind of rewrite.
pub trait Pass: Sync {
    /// Returns the name of the pass in messages and on the command line.
    fn name(&self) -> &'static str;

    /// Returns the first rewrite that applies; `None` if there is none.
    fn next(&self, graph: &Graph, weights: &Weights) -> Checked<Option<Rewrite>>;
}

/// Part of a compilation in which a pass runs.
#[derive(Clone, Copy, Debug)]
pub enum PassStage {
    /// Simplifies the network.
    Simplify {
        /// Readers of float32 files that gain from it.
        targets: &'static [Target],
        /// Whether it also runs before int8 quantisation, for every reader with integer operations.
        int8: bool,
    },
    /// Replaces operations that ONNX or a reader lacks.
    Lower {
        /// Readers that need it.
        targets: &'static [Target],
    },
}

/// Row of the table: a pass and its use.
pub struct PassEntry {
    /// The pass.
    pub pass: &'static dyn Pass,
    /// Sentence that describes the effect, for help and the reference.
    pub doc: &'static str,
    /// Part of a compilation in which the pass runs.
    pub stage: PassStage,
}

/// Declares the table: effect, name, which is that of the module, type, and use.
macro_rules! passes {
    ($($(#[doc = $doc:literal])+ $name:ident: $pass:ident, $stage:expr;)+) => {
        $(
            mod $name;

            $(#[doc = $doc])+
            #[derive(Debug)]
            pub struct $pass;

            impl Pass for $pass {
                fn name(&self) -> &'static str {
                    stringify!($name)
                }

                fn next(&self, graph: &Graph, weights: &Weights) -> Checked<Option<Rewrite>> {
                    $name::next(graph, weights)
                }
            }
        )+

        /// All passes, in the order in which they run.
        pub static PASSES: &[PassEntry] = &[
            $(PassEntry { pass: &$pass, doc: concat!($($doc),+).trim_ascii(), stage: $stage }),+
        ];

        /// Returns for each pass a graph on which it fires.
        #[cfg(test)]
        fn examples() -> Vec<Graph> {
            vec![$($name::tests::example()),+]
        }
    };
}

use PassStage::{Lower, Simplify};
use Target::{CandleOnnx, OnnxRuntime};

const EVERY: &[Target] = &Target::ALL;

// A pass for every target adds neither parameters nor multiply-accumulates. int8 has its own choice: a sum of
// integers is an operation of its own, so concatenations are not split, and a ReLU costs nothing if its grid
// starts at 0.
passes! {
    /// Removes nodes that no result depends on.
    remove_dead: RemoveDead, Simplify { targets: EVERY, int8: true };
    /// Removes operations that return their input.
    drop_identity: DropIdentity, Simplify { targets: EVERY, int8: true };
    /// Removes zeros (`none`) from sums, and moves them through operations that keep zeros.
    drop_none: DropNone, Simplify { targets: EVERY, int8: true };
    /// Merges nodes that compute the same value.
    merge_equal: MergeEqual, Simplify { targets: EVERY, int8: true };
    /// Splits the BatchNorm behind a factorised reduction, for `fold_batch_norm`.
    split_batch_norm: SplitBatchNorm, Simplify { targets: EVERY, int8: true };
    /// Folds a BatchNorm into the convolution before it.
    fold_batch_norm: FoldBatchNorm, Simplify { targets: EVERY, int8: true };
    /// Moves global average pooling before a concatenation.
    pool_parts: PoolParts, Simplify { targets: &[OnnxRuntime], int8: false };
    /// Joins a factorised reduction to one 2x2 convolution with zeros, which multiplies more to copy less.
    join_reduction: JoinReduction, Simplify { targets: &[OnnxRuntime], int8: false };
    /// Replaces the convolution of a concatenation by a sum of convolutions.
    split_concat: SplitConcat, Simplify { targets: &[OnnxRuntime], int8: false };
    /// Moves ReLU before a concatenation.
    push_relu_into_concat: PushReluIntoConcat, Simplify { targets: &[], int8: true };
    /// Replaces strided zeros, which ONNX lacks, by zeros of a subsampled image.
    lower_none: LowerNone, Lower { targets: EVERY };
    /// Adds the scale and shift that ONNX requires to a BatchNorm without them.
    lower_batch_norm: LowerBatchNorm, Lower { targets: EVERY };
    /// Replaces global average pooling by average pooling with one window.
    lower_global_pool: LowerGlobalPool, Lower { targets: &[CandleOnnx] };
    /// Replaces a padded pool by pools of parts of the image.
    lower_padding: LowerPadding, Lower { targets: &[CandleOnnx] };
}

/// Change that a pass proposes.
pub struct Rewrite {
    /// Name of the node to rewrite.
    pub at: String,
    /// Patch with the change.
    pub patch: Patch,
}

impl Rewrite {
    /// Returns a rewrite after which the readers of `old` read `new`.
    fn replace(graph: &Graph, old: Value, new: Value) -> Checked<Self> {
        let mut patch = Patch::new();
        let new = patch.tap(new);
        patch.shunt(graph, old, new)?;
        Ok(Rewrite { at: graph.node(old).name.clone(), patch })
    }
}

/// Patch that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPatch {
    /// Number of the patch, counted from 1.
    pub number: usize,
    /// Name of the pass.
    pub pass: &'static str,
    /// Name of the rewritten node.
    pub at: String,
    /// Number of nodes in the graph afterwards.
    pub nodes: usize,
}

/// Applies `passes` in order, each until it finds nothing. Repeats the sequence until no pass finds anything
/// or `most` patches are applied. Calls `log` for every applied patch and returns their number.
///
/// # Errors
/// [`Error::Pass`] if a search fails or a patch is refused; [`Error::Endless`] if the passes keep rewriting.
/// `graph` and `weights` then contain all patches before that one.
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

/// Number of reads of each wire, by nodes and as a result.
struct Reads(Vec<usize>);

impl Reads {
    fn of(graph: &Graph) -> Self {
        let mut reads = vec![0; graph.nodes().len()];
        let results = graph.outputs().iter().map(|(_, v)| v);
        graph.nodes().iter().flat_map(|n| &n.inputs).chain(results).for_each(|v| reads[v.index()] += 1);
        Reads(reads)
    }

    /// Returns whether a wire that has a reader has exactly one.
    fn once(&self, value: Value) -> bool {
        self.0[value.index()] == 1
    }
}

/// Returns whether `new` can replace `old` if `old` is a result. ONNX names results by their wires, so each
/// result needs a wire of its own that is not an input.
fn can_stand_for(graph: &Graph, new: Value, old: Value) -> bool {
    !graph.is_output(old) || !(graph.is_output(new) || matches!(graph.node(new).op, Op::Input(_)))
}

/// Returns `wish`, with underscores appended until no node has that name. Nodes in `instead_of` do not count.
fn node_name(graph: &Graph, wish: &str, instead_of: &[&Node]) -> String {
    let taken = |name: &str| {
        graph.nodes().iter().any(|n| n.name == name && instead_of.iter().all(|old| old.name != n.name))
    };
    until_free(wish, taken)
}

/// Returns `node.role`, with underscores appended until no node reads a parameter of that name. Nodes in
/// `instead_of` do not count.
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

/// Returns a parameter of a node.
fn tensor<'a>(weights: &'a Weights, node: &Node, role: ParamRole) -> Checked<&'a Tensor> {
    let missing =
        || milenas_models::Error::Weights { problem: format!("`{}.{}` is missing", node.name, role.name()) };
    Ok(node.param(role).and_then(|name| weights.get(name)).ok_or_else(missing)?.as_tensor())
}

/// Returns the values of a node's parameter.
pub(crate) fn numbers(weights: &Weights, node: &Node, role: ParamRole) -> Checked<Vec<f32>> {
    Ok(tensor(weights, node, role)?.flatten_all()?.to_vec1()?)
}
