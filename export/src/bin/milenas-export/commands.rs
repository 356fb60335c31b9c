//! Implementation of the commands, and their printed results.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;

use crate::console::{self, note};
use anyhow::{Context, Result, bail};
use milenas_export::int8::{Int8, Int8Report};
use milenas_export::onnx::OnnxFormat;
use milenas_export::passes::{AppliedPatch, Pass};
use milenas_export::verify::NetworkRef;
use milenas_export::{
    ExportOptions, ExportReport, IoForm, Target, calibration, export_file, sidecars, untrained,
};
use milenas_models::{Error, Genotype, Model, file, shell};

use crate::cli::{Cli, Command, Export, InputArg, OutputArg, Untrained};
use crate::{inspect, report};

/// Size limit of a genotype file, in bytes.
const MAX_GENOTYPE_BYTES: u64 = 1 << 20;

/// Message for a source that already fixes the size of its network.
pub(crate) const SIZED: &str =
    "its size is fixed in the file. help: omit --channels, --layers, --classes and --size";

/// Runs a command.
pub fn execute(cli: Cli) -> Result<()> {
    let export = cli.export;
    match (cli.command, &export.source, &export.out) {
        (Some(Command::Inspect(options)), ..) => inspect::inspect(&options),
        (None, Some(source), Some(out)) => compile(source, out, &export),
        // The parser requires `source` and `out` unless a subcommand is given.
        (None, ..) => bail!("nothing to do. help: milenas-export --help"),
    }
}

/// Refuses outputs that would overwrite an input or another output. Runs before any other work.
fn check_outputs(source: &str, out: &Path, arguments: &Export) -> Result<()> {
    let sidecars = sidecars::paths(out);
    let mut outputs = vec![("-o", out)];
    outputs.extend(arguments.report.as_deref().map(|path| ("--report", path)));
    if arguments.sidecars {
        outputs.extend(sidecars.iter().map(|path| ("--sidecars", path.as_path())));
    }
    let mut inputs = vec![("the source", Path::new(source))];
    inputs.extend(arguments.calibrate.as_deref().map(|path| ("--calibrate", Path::new(path))));
    file::check_outputs(&outputs, &inputs)?;
    if file::is_special(out) {
        bail!("-o is {}, a device or a pipe; expected a file, which can be read back", out.display());
    }
    match &arguments.triton {
        Some(path) if path.exists() && !path.is_dir() => {
            bail!("--triton is {}, a file; expected a folder, which is created if absent", path.display())
        }
        _ => Ok(()),
    }
}

fn compile(source: &str, out: &Path, arguments: &Export) -> Result<()> {
    check_outputs(source, out, arguments)?;
    let model = load(source, arguments.untrained, arguments.seed)?;
    let target = arguments.target;
    let passes = chosen(target, arguments)?;
    let bytes = (arguments.input == InputArg::Uint8).then(|| model.card.input.clone());
    let probabilities = arguments.output == OutputArg::Probabilities;
    let batch = arguments.batch.map(usize::from);
    let io = IoForm { bytes, probabilities, batch };
    let images = match &arguments.calibrate {
        Some(source) => calibration::images(source, &model.card, &io, arguments.int8)?,
        None => Default::default(),
    };
    let int8 = arguments.int8.then_some(Int8 {
        method: arguments.calibration_method,
        gate: arguments.accuracy_gate,
        calibration: &images.ranges.batches,
        holdout: &images.holdout.batches,
        labels: &images.holdout.labels,
        progress: &|attempt| note(attempt),
    });
    let options = ExportOptions {
        target,
        io: io.clone(),
        format: OnnxFormat { opset: arguments.opset, half: arguments.fp16, ..OnnxFormat::default() },
        passes,
        steps: arguments.stop_after,
        seed: arguments.seed,
        int8,
        inputs: &images.compared.batches,
        ..ExportOptions::default()
    };
    let network = NetworkRef { graph: &model.graph, weights: &model.weights };
    let metadata = sidecars::metadata(&model.card, arguments.license.as_deref())?;
    let mut log = |step: &AppliedPatch| {
        if arguments.verbose {
            note(format_args!("{:5} {} at {}, {} nodes", step.number, step.pass, step.at, step.nodes));
        }
    };
    let proved = export_file(out, network, &metadata, &options, &mut log);
    if let (Err(milenas_export::Error::Differs { comparison, .. }), Some(path)) = (&proved, &arguments.report)
    {
        file::write(path, report::differing(comparison, &options, source)?.as_bytes())?;
    }
    let report = proved?;
    say(&summary(&report, &options, out))?;
    if let Some(path) = &arguments.report {
        file::write(path, report::json(&report, &options, source)?.as_bytes())?;
        say(&format!("report      {}\n", path.display()))?;
    }
    if arguments.sidecars {
        sidecars::write(out, &model.card, &io)?;
        say("sidecars    labels.txt, preprocess.json\n")?;
    }
    if let Some(folder) = &arguments.triton {
        sidecars::write_triton(folder, out, &model.card, &io)?;
        say(&format!("triton      {}\n", folder.display()))?;
    }
    say(&format!("next        milenas-infer classify {} IMAGE...\n", shell::path(out)))
}

/// Summary of an export, one fact per line.
fn summary(report: &ExportReport, options: &ExportOptions, out: &Path) -> String {
    let [before, after] = report.cost;
    let mut lines = vec![
        format!("patches     {}", report.steps),
        format!("nodes       {} -> {}", report.nodes[0], report.nodes[1]),
        format!("parameters  {} -> {}", before.params, after.params),
        format!("MACs        {} -> {}", before.macs, after.macs),
        format!("difference  {} (allowed: {}): equal", report.comparison, options.tolerance),
    ];
    lines.extend(report.rounded.iter().map(|rounded| format!("rounding    {rounded}")));
    if let Some(Int8Report { accuracy, gate, holdout_images, rounded, floats, .. }) = &report.int8 {
        lines.push(format!("int8        {rounded} convolutions, {} remain float32", floats.len()));
        lines.extend(floats.iter().map(|s| format!("            {} ({:.1e})", s.layer, s.error)));
        lines.push(format!(
            "accuracy    {:.2} % -> {:.2} % on {holdout_images} images (allowed: {gate} points)",
            accuracy[0], accuracy[1]
        ));
    }
    if report.comparison.variation <= options.tolerance.relative {
        let little = "the network computes the same output for every image, so the comparison proves little";
        lines.push(format!("note        {little}"));
    }
    lines.push(format!("wrote       {} ({} bytes)\n", out.display(), report.bytes));
    lines.join("\n")
}

/// Writes `text` to standard output. A closed pipe, as in `inspect | head`, is not an error.
pub(crate) fn say(text: &str) -> Result<()> {
    match console::print(text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output"),
    }
}

/// Returns the passes of the target that the arguments select, in the order of the target's pipeline.
fn chosen(target: Target, arguments: &Export) -> Result<Vec<&'static dyn Pass>> {
    let all = match arguments.int8 {
        false => target.simplify(),
        true => target.simplify_for_int8().with_context(|| {
            format!("{} has no operations on integers. help: --int8 needs another --target", target.name())
        })?,
    };
    let known = || all.iter().map(|pass| pass.name());
    let only: Vec<&str> = match arguments.passes.as_deref() {
        None => known().collect(),
        Some("none") => Vec::new(),
        Some(names) => names.split(',').map(str::trim).collect(),
    };
    let skipped: Vec<&str> = arguments.skip_pass.iter().map(String::as_str).collect();
    if let Some(unknown) = only.iter().chain(&skipped).find(|name| !known().any(|k| k == **name)) {
        return Err(Error::unknown("pass", *unknown, known()).into());
    }
    let asked = |name: &str| only.contains(&name) && !skipped.contains(&name);
    Ok(all.iter().copied().filter(|pass| asked(pass.name())).collect())
}

/// Loads trained weights with their card, or builds the untrained network of a genotype.
pub(crate) fn load(source: &str, size: Untrained, seed: u64) -> Result<Model> {
    if source.starts_with('|') || source.starts_with("Genotype(") {
        return Ok(untrained::network(Genotype::parse(source, "the genotype")?, size.into(), seed)?);
    }
    let path = Path::new(source);
    match path.extension().and_then(OsStr::to_str) {
        Some("safetensors") if size.is_asked() => bail!("{source}: {SIZED}"),
        Some("safetensors") => return Ok(Model::load(path)?),
        Some("onnx") => bail!(
            "{source}: this program writes ONNX files and does not compile them. help: give weights.safetensors or a genotype; \
             `milenas-export inspect` reads ONNX"
        ),
        _ => {}
    }
    let genotype = if path.exists() {
        let bytes = file::read(path, MAX_GENOTYPE_BYTES)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::malformed(source, "no text. help: weights end in .safetensors"))?;
        Genotype::parse(&text, source)?
    } else if source.contains(['/', '.']) {
        bail!("{source}: no such file. help: `milenas-search train` writes OUT/weights.safetensors");
    } else {
        Genotype::named(source)?
    };
    Ok(untrained::network(genotype, size.into(), seed)?)
}
