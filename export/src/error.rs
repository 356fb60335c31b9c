//! Errors of this crate, sorted by who is at fault.

use crate::verify::{Comparison, Tolerance};

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure of this crate. Each message says what, where, expected and found, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The file is at fault.
    /// A file that uses operators this program lacks: all of them, with the nodes that use them.
    #[error(
        "{place}: this program has no operator for {}. Help: export a classifier made of the operators in the \
         manual, in inference mode",
        listed(.operators)
    )]
    Operators {
        /// The file.
        place: String,
        /// Operator and names of the nodes, in name order of the operators.
        operators: Vec<(String, Vec<String>)>,
    },
    /// A node whose operator is known but used in a way that is wrong or not supported.
    #[error("{place}, node `{node}` ({operator}): {problem}")]
    Node {
        /// The file.
        place: String,
        /// The node's name.
        node: String,
        /// Its operator.
        operator: String,
        /// Expected and found.
        problem: String,
    },

    // The graph is at fault: it is not in the vocabulary of the format.
    /// A graph that the encoder cannot write down.
    #[error("graph, `{node}` cannot be written as ONNX: {problem}")]
    NotLowered {
        /// The node or output.
        node: String,
        /// Obstacle, and the pass that would remove it.
        problem: String,
    },

    // The compiler is at fault.
    /// A pass whose patch is refused.
    #[error("pass `{pass}`, step {step}, at `{at}`: {source}")]
    Pass {
        /// The pass.
        pass: &'static str,
        /// The number of the patch, from 1.
        step: usize,
        /// The node that was to be rewritten; empty when the search for it failed.
        at: String,
        /// The reason.
        source: Box<milenas_models::Error>,
    },
    /// Passes that keep finding something to do.
    #[error("pass `{pass}` still rewrites after {steps} steps: two passes undo each other")]
    Endless {
        /// Pass that was about to continue.
        pass: &'static str,
        /// Steps done.
        steps: usize,
    },
    /// A compiled network that computes something else than its source.
    #[error(
        "the compiled network differs from its source: {comparison}, over the tolerance of {tolerance}. \
         Nothing was written. Help: bisect with setting `stop-after`"
    )]
    Differs {
        /// Measured differences.
        comparison: Comparison,
        /// Allowed differences.
        tolerance: Tolerance,
    },

    /// Failure of files, limits, weights, graphs or tensors.
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
