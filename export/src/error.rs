//! Errors of this crate, grouped by their cause.

use crate::verify::{Comparison, Tolerance};

/// Result type of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of this crate. The message names what failed, where, the expected and the found value, and the next
/// step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Errors caused by the file.
    /// Unsupported operators of a file: all of them, each with the nodes that use it.
    #[error(
        "{place}: this program has no operator for {}. help: export a classifier made of the operators in the \
         manual, in inference mode",
        listed(.operators)
    )]
    Operators {
        /// Name of the file.
        place: String,
        /// Operators sorted by name, each with the names of its nodes.
        operators: Vec<(String, Vec<String>)>,
    },
    /// Node whose known operator is used in a wrong or unsupported way.
    #[error("{place}, node `{node}` ({operator}): {problem}")]
    Node {
        /// Name of the file.
        place: String,
        /// Name of the node.
        node: String,
        /// Operator of the node.
        operator: String,
        /// Problem, with expected and found values.
        problem: String,
    },

    // Errors caused by the graph: it cannot be expressed in ONNX.
    /// Graph that the encoder cannot express in ONNX.
    #[error("graph, `{node}` cannot be written as ONNX: {problem}")]
    NotLowered {
        /// Name of the node or output.
        node: String,
        /// Obstacle, and the pass that would remove it.
        problem: String,
    },

    // Errors caused by the compiler.
    /// Failure of a pass: the search failed or the patch was refused.
    #[error("pass `{pass}`, step {step}, at `{at}`: {source}")]
    Pass {
        /// Name of the pass.
        pass: &'static str,
        /// Number of the patch, counted from 1.
        step: usize,
        /// Name of the node to rewrite; empty if the search failed.
        at: String,
        /// Error of the search or of the patch.
        source: Box<milenas_models::Error>,
    },
    /// Passes that still find rewrites at the limit of steps.
    #[error("pass `{pass}` still rewrites after {steps} steps: two passes undo each other")]
    Endless {
        /// Name of the pass that was about to run.
        pass: &'static str,
        /// Number of patches applied.
        steps: usize,
    },
    /// Compiled network whose results differ from those of its source.
    #[error(
        "the compiled network differs from its source: {comparison}, over the tolerance of {tolerance}. \
         Nothing was written. help: bisect with setting `stop-after`"
    )]
    Differs {
        /// Measured differences.
        comparison: Comparison,
        /// Allowed differences.
        tolerance: Tolerance,
    },

    /// Error of files, limits, weights, graphs or tensors, from `milenas-models`.
    #[error(transparent)]
    Model(#[from] milenas_models::Error),
}

fn listed(operators: &[(String, Vec<String>)]) -> String {
    let one = |(operator, nodes): &(String, Vec<String>)| match nodes.as_slice() {
        [node] => format!("{operator} (`{node}`)"),
        [node, ..] => format!("{operator} (`{node}` and {} more)", nodes.len() - 1),
        [] => operator.clone(),
    };
    milenas_models::error::some_of(&operators.iter().map(one).collect::<Vec<_>>())
}
