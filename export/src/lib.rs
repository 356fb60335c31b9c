//! Compiling: from a trained network to a standalone ONNX file that is proved to compute the same.
//!
//! [`compile`] simplifies a graph and brings it into the vocabulary of ONNX ([`passes`]); [`export_file`] writes it
//! ([`onnx`]), reads the file back, and runs it beside the source network ([`verify`]).
#![deny(unsafe_code)]

mod error;
pub mod onnx;
pub mod passes;
mod target;
#[cfg(test)]
mod testing;
pub mod verify;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use milenas_models::{Cost, Graph, Weights, cost, file};

pub use error::{Error, Result};
use passes::{Pass, Step};
pub use target::{LOWER, SIMPLIFY, Target};
use verify::{Comparison, Network, Tolerance};

/// How to compile.
pub struct Options<'a> {
    /// For which reader.
    pub target: Target,
    /// The passes that simplify: [`Target::simplify`] or some of it.
    pub passes: &'a [&'a dyn Pass],
    /// How many of their patches at most, to find the one that is wrong.
    pub steps: usize,
    /// What the compiled network may differ by.
    pub tolerance: Tolerance,
    /// Of the inputs for the comparison.
    pub seed: u64,
    /// More inputs for the comparison, e.g. real images.
    pub inputs: &'a [Vec<Tensor>],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            target: Target::Portable,
            passes: SIMPLIFY,
            steps: usize::MAX,
            tolerance: Tolerance::ROUNDING,
            seed: 0,
            inputs: &[],
        }
    }
}

/// What a network was and became.
#[derive(Clone, Debug)]
pub struct Report {
    /// Nodes before and after.
    pub nodes: [usize; 2],
    /// Parameters and multiply-accumulates before and after.
    pub cost: [Cost; 2],
    /// Patches applied.
    pub steps: usize,
    /// The file beside the source network.
    pub comparison: Comparison,
    /// The size of the file.
    pub bytes: usize,
}

/// The network simplified and in the vocabulary of ONNX. The weights of `network` are left as they are. Every
/// applied patch is shown to `log`.
///
/// # Errors
/// A pass whose patch is refused.
pub fn compile(network: Network, options: &Options, log: &mut dyn FnMut(&Step)) -> Result<(Graph, Weights)> {
    let (mut graph, mut weights) = (network.graph.clone(), network.weights.clone());
    passes::run(options.passes, &mut graph, &mut weights, options.steps, log)?;
    passes::run(options.target.lower(), &mut graph, &mut weights, usize::MAX, log)?;
    Ok((graph, weights))
}

/// Compiles a network, writes it to `path`, reads the file back and compares what it computes. The file takes
/// its name only once it is proved.
///
/// # Errors
/// A pass that fails, a graph that ONNX cannot say, a file that cannot be written, a difference over the tolerance.
/// No new file is left behind.
pub fn export_file(
    path: &Path,
    network: Network,
    metadata: &BTreeMap<String, String>,
    options: &Options,
    log: &mut dyn FnMut(&Step),
) -> Result<Report> {
    let mut steps = 0;
    let (graph, weights) = compile(network, options, &mut |step| {
        steps += 1;
        log(step);
    })?;
    let bytes = onnx::encode(&graph, &weights, metadata)?;

    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.unproved", std::process::id()));
    let unproved = path.with_file_name(name);
    let proved = (|| -> Result<Comparison> {
        file::write(&unproved, &bytes).map_err(|e| named(e, path))?;
        let comparison = prove(network, &unproved, options)?;
        std::fs::rename(&unproved, path).map_err(milenas_models::Error::io(path))?;
        Ok(comparison)
    })();
    let comparison = proved.inspect_err(|_| {
        // The error that matters is the one being reported.
        let _ = std::fs::remove_file(&unproved);
    })?;
    let nodes = [network.graph.nodes().len(), graph.nodes().len()];
    let cost = [cost(network.graph), cost(&graph)];
    Ok(Report { nodes, cost, steps, comparison, bytes: bytes.len() })
}

/// The same failure at the path that the caller knows.
fn named(error: milenas_models::Error, path: &Path) -> milenas_models::Error {
    match error {
        milenas_models::Error::Io { source, .. } => milenas_models::Error::Io { path: path.into(), source },
        other => other,
    }
}

/// Reads a file and runs it beside `network`.
fn prove(network: Network, path: &Path, options: &Options) -> Result<Comparison> {
    let read = onnx::read(path)?;
    let mut inputs = verify::random_inputs(network.graph, options.seed)?;
    inputs.extend_from_slice(options.inputs);
    let file = Network { graph: &read.graph, weights: &read.weights };
    let comparison = verify::compare(network, file, &inputs)?;
    match comparison.within(&options.tolerance) {
        true => Ok(comparison),
        false => Err(Error::Differs { comparison, tolerance: options.tolerance }),
    }
}
