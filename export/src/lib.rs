//! Compiles a trained network into a standalone ONNX file and verifies that the file computes the same.
//!
//! [`compile`] simplifies a graph and lowers it to operators of ONNX ([`passes`]). [`export_file`] writes the
//! file ([`onnx`]), reads it back and compares it with the source network ([`verify`]). [`int8`] quantises
//! the network. [`sidecars`] writes labels, preprocessing and a Triton repository.
//!
//! # Examples
//! ```
//! use milenas_export::untrained::{UntrainedSize, network};
//! use milenas_export::verify::NetworkRef;
//! use milenas_export::{ExportOptions, export_file, sidecars};
//! use milenas_models::Genotype;
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("model.onnx");
//! let size = UntrainedSize { channels: 4, layers: 3, classes: 10, size: 8 };
//! let model = network(Genotype::named("DARTS_V2")?, size, 0)?;
//! let source = NetworkRef { graph: &model.graph, weights: &model.weights };
//! let metadata = sidecars::metadata(&model.card, None)?;
//! let report = export_file(&path, source, &metadata, &ExportOptions::default(), &mut |_| {})?;
//! assert!(report.nodes[1] < report.nodes[0]);
//! # Ok::<(), milenas_export::Error>(())
//! ```
#![deny(unsafe_code)]

pub mod calibration;
mod error;
pub mod int8;
mod io_form;
pub mod onnx;
pub mod passes;
pub mod sidecars;
mod target;
#[cfg(test)]
mod testing;
pub mod untrained;
pub mod verify;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use milenas_models::{Cost, Graph, Weights, cost, file};

pub use error::{Error, Result};
pub use io_form::{IoForm, unwrap_io};
use passes::{AppliedPatch, Pass};
pub use target::Target;
use verify::{Comparison, NetworkRef, Tolerance};

/// Options of a compilation.
pub struct ExportOptions<'a> {
    /// Reader of the file.
    pub target: Target,
    /// Input and output of the file.
    pub io: IoForm,
    /// Operator set and storage of the file. [`export_file`] sets its `bytes` and `integers` from `io` and
    /// `int8`.
    pub format: onnx::OnnxFormat,
    /// Simplifying passes: all or some of [`Target::simplify`].
    pub passes: Vec<&'a dyn Pass>,
    /// Largest number of simplifying patches. A smaller value helps to find a wrong patch.
    pub steps: usize,
    /// Largest difference between the compiled network and its source.
    pub tolerance: Tolerance,
    /// Seed of the comparison's inputs.
    pub seed: u64,
    /// Quantisation to 8 bits, as far as its accuracy gate allows.
    pub int8: Option<int8::Int8<'a>>,
    /// Additional inputs for the comparison, e.g. real images, as float32 `[N, C, H, W]`.
    pub inputs: &'a [Vec<Tensor>],
}

impl Default for ExportOptions<'_> {
    fn default() -> Self {
        ExportOptions {
            target: Target::Portable,
            io: IoForm::default(),
            format: onnx::OnnxFormat::default(),
            passes: Target::Portable.simplify(),
            steps: usize::MAX,
            tolerance: Tolerance::ROUNDING,
            seed: 0,
            int8: None,
            inputs: &[],
        }
    }
}

/// Metadata key whose value lists the target and the number of patches of each pass.
pub const PASSES_KEY: &str = "milenas.passes";

/// Sizes, patches and comparisons of an export.
#[derive(Clone, Debug)]
pub struct ExportReport {
    /// Number of nodes before and after.
    pub nodes: [usize; 2],
    /// Parameters and multiply-accumulates before and after.
    pub cost: [Cost; 2],
    /// Number of patches applied.
    pub steps: usize,
    /// Number of patches by pass.
    pub passes: BTreeMap<&'static str, usize>,
    /// Comparison of the file with the source network. If the file has fewer bits, the reference has rounded
    /// weights too.
    pub comparison: Comparison,
    /// Comparison of a file with fewer bits and the unrounded source network; `None` for float32 files.
    pub rounded: Option<Comparison>,
    /// Effect of int8 quantisation on accuracy; `None` without quantisation.
    pub int8: Option<int8::Int8Report>,
    /// Size of the file, in bytes.
    pub bytes: usize,
}

/// Simplifies a network and lowers it to operators of ONNX. `network` is unchanged; `log` receives every
/// applied patch.
///
/// # Errors
/// [`Error::Pass`] if a patch is refused; [`Error::Endless`] if the passes never finish.
pub fn compile(
    network: NetworkRef,
    options: &ExportOptions,
    log: &mut dyn FnMut(&AppliedPatch),
) -> Result<(Graph, Weights)> {
    let (mut graph, mut weights) = (network.graph.clone(), network.weights.clone());
    passes::run(&options.passes, &mut graph, &mut weights, options.steps, log)?;
    passes::run(&options.target.lower(), &mut graph, &mut weights, usize::MAX, log)?;
    Ok((graph, weights))
}

/// Compiles a network, writes it to `path`, reads the file back and compares its outputs with those of the
/// source. The file is written under a temporary name and gets the name `path` only after the comparison.
///
/// # Errors
/// [`Error::Pass`] or [`Error::Endless`] from [`compile`]. [`Error::NotLowered`] for a graph that ONNX cannot
/// express. [`Error::Model`] for a file that cannot be written. [`Error::Differs`] for a difference above the
/// tolerance. On an error no new file remains.
pub fn export_file(
    path: &Path,
    network: NetworkRef,
    metadata: &BTreeMap<String, String>,
    options: &ExportOptions,
    log: &mut dyn FnMut(&AppliedPatch),
) -> Result<ExportReport> {
    let mut passes = BTreeMap::new();
    let (source, numbers) = options.io.wrap(network)?;
    let network = NetworkRef { graph: &source, weights: &numbers };
    let (graph, weights) = compile(network, options, &mut |step| {
        *passes.entry(step.pass).or_default() += 1;
        log(step);
    })?;
    let floats = NetworkRef { graph: &graph, weights: &weights };
    let quantized = options.int8.map(|int8| int8::quantize(floats, &int8, options.target)).transpose()?;
    let (written, integers) = match &quantized {
        None => (floats, BTreeMap::new()),
        Some(q) => (NetworkRef { graph: &q.graph, weights: &q.weights }, q.integers.clone()),
    };
    let format = onnx::OnnxFormat { integers, bytes: options.io.bytes.is_some(), ..options.format.clone() };
    let applied = passes.iter().map(|(pass, count)| format!("{pass} {count}")).collect::<Vec<_>>().join(", ");
    let mut metadata = metadata.clone();
    metadata.insert(PASSES_KEY.into(), format!("{}: {applied}", options.target.name()));
    let bytes = onnx::encode_as(written.graph, written.weights, &metadata, &format)?;

    let (comparison, rounded) = file::replace(path, |unproved| {
        file::write(unproved, &bytes).map_err(|e| named(e, path))?;
        let stages = Stages { source: network, compiled: floats, written };
        prove(&stages, unproved, options)
    })?;
    let nodes = [network.graph.nodes().len(), written.graph.nodes().len()];
    let cost = [cost(network.graph), cost(written.graph)];
    let steps = passes.values().sum();
    let int8 = quantized.map(|q| q.outcome);
    Ok(ExportReport { nodes, cost, steps, passes, comparison, rounded, int8, bytes: bytes.len() })
}

/// Replaces the path of an I/O error by `path`, which the caller knows.
fn named(error: milenas_models::Error, path: &Path) -> milenas_models::Error {
    match error {
        milenas_models::Error::Io { source, .. } => milenas_models::Error::Io { path: path.into(), source },
        other => other,
    }
}

/// Network at the stages of an export.
struct Stages<'a> {
    /// Source network, with the input and output form of the file.
    source: NetworkRef<'a>,
    /// Network after all passes, in float32.
    compiled: NetworkRef<'a>,
    /// Network as encoded: `compiled`, or its quantised form.
    written: NetworkRef<'a>,
}

/// Reads a file and compares it with the source network. Returns the comparison, and the effect of rounding
/// for a file with fewer bits.
///
/// Rounding of weights and activations differs from rounding of sums, so a file with fewer bits takes two
/// comparisons. The first compares the compiled network with its source. The second compares the file with
/// the compiled network after rounding.
fn prove(stages: &Stages, path: &Path, options: &ExportOptions) -> Result<(Comparison, Option<Comparison>)> {
    let Stages { source: network, compiled, written } = *stages;
    let read = onnx::read(path)?;
    let mut inputs = verify::random_inputs(network.graph, options.seed)?;
    if options.io.bytes.is_some() {
        for x in inputs.iter_mut().flatten() {
            let bytes = x.affine(64.0, 128.0).and_then(|x| x.round()?.clamp(0f32, 255f32));
            *x = bytes.map_err(milenas_models::Error::from)?;
        }
    }
    inputs.extend_from_slice(options.inputs);
    let file = NetworkRef { graph: &read.graph, weights: &read.weights };
    let equal = |reference, other| -> Result<Comparison> {
        let comparison = verify::compare(reference, other, &inputs)?;
        match comparison.within(&options.tolerance) {
            true => Ok(comparison),
            false => Err(Error::Differs { comparison, tolerance: options.tolerance }),
        }
    };
    if !options.format.half && options.int8.is_none() {
        return Ok((equal(network, file)?, None));
    }
    equal(network, compiled)?;
    let proof = match options.format.half {
        true => equal(NetworkRef { weights: &rounded(written.weights)?, ..written }, file)?,
        false => equal(written, file)?,
    };
    Ok((proof, Some(verify::compare(network, file, &inputs)?)))
}

/// Rounds the weights of two or more dimensions to float16.
fn rounded(weights: &Weights) -> Result<Weights> {
    let mut rounded = Weights::default();
    for (name, tensor) in weights.iter() {
        let narrow = || tensor.to_dtype(DType::F16)?.to_dtype(DType::F32);
        match tensor.rank() {
            0 | 1 => rounded.insert(name, tensor.as_tensor().clone())?,
            _ => rounded.insert(name, narrow().map_err(milenas_models::Error::from)?)?,
        }
    }
    Ok(rounded)
}
