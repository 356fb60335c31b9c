//! What each command does, and what it prints.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Result, bail};
use milenas_export::passes::Pass;
use milenas_export::verify::Network;
use milenas_export::{Options, Target, export_file, onnx};
use milenas_models::{Card, Error, Genotype, Graph, Model, cost, file};

use crate::cli::{Cli, Command, Export, Untrained};
use crate::untrained;

/// The largest genotype file, in bytes.
const MAX_GENOTYPE_BYTES: u64 = 1 << 20;

/// Does what was asked.
pub fn execute(cli: Cli) -> Result<()> {
    let export = cli.export;
    match (cli.command, &export.source, &export.output) {
        (Some(Command::Inspect { file, untrained }), ..) => inspect(&file, untrained),
        (None, Some(source), Some(output)) => compile(source, output, &export),
        // The parser requires both where there is no command.
        (None, ..) => bail!("nothing to do. Help: milenas-export --help"),
    }
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
fn compile(source: &str, output: &Path, arguments: &Export) -> Result<()> {
    let model = load(source, arguments.untrained, arguments.seed)?;
    let target = arguments.target;
    let passes = chosen(target, arguments.passes.as_deref())?;
    let options = Options {
        target,
        passes: &passes,
        steps: arguments.steps,
        seed: arguments.seed,
        ..Options::default()
    };
    let network = Network { graph: &model.graph, weights: &model.weights };
    let report = export_file(output, network, &model.card.to_metadata()?, &options, &mut |step| {
        if arguments.verbose {
            eprintln!("{:5} {} at {}, {} nodes", step.number, step.pass, step.at, step.nodes);
        }
    })?;
    let [before, after] = report.cost;
    println!("patches     {}", report.steps);
    println!("nodes       {} -> {}", report.nodes[0], report.nodes[1]);
    println!("parameters  {} -> {}", before.params, after.params);
    println!("MACs        {} -> {}", before.macs, after.macs);
    println!("difference  {} (allowed: {})", report.comparison, options.tolerance);
    if report.comparison.variation <= options.tolerance.relative {
        println!(
            "note        the network gives every image the same answer, so the comparison proves little"
        );
    }
    println!("wrote       {} ({} bytes)", output.display(), report.bytes);
    println!("next        milenas-infer classify {} IMAGE...", output.display());
    Ok(())
}

/// The target's passes of these names, in the order of its pipeline.
fn chosen(target: Target, names: Option<&str>) -> Result<Vec<&'static dyn Pass>> {
    let names: Vec<&str> = match names {
        None => return Ok(target.simplify().to_vec()),
        Some("none") => Vec::new(),
        Some(names) => names.split(',').map(str::trim).collect(),
    };
    let known = || target.simplify().iter().map(|pass| pass.name());
    if let Some(unknown) = names.iter().find(|name| !known().any(|k| k == **name)) {
        return Err(Error::unknown("pass", *unknown, known()).into());
    }
    Ok(target.simplify().iter().copied().filter(|pass| names.contains(&pass.name())).collect())
}

/// Trained weights with their card; or the untrained network of a genotype.
fn load(source: &str, size: Untrained, seed: u64) -> Result<Model> {
    let path = Path::new(source);
    if path.extension().is_some_and(|e| e == "safetensors") {
        return Ok(Model::load(path)?);
    }
    let genotype = if path.exists() {
        let bytes = file::read(path, MAX_GENOTYPE_BYTES)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::malformed(source, "no text. Help: weights end in .safetensors"))?;
        Genotype::parse(&text, source)?
    } else if source.contains(['/', '.']) {
        bail!("{source}: there is no such file. Help: `milenas-search train` writes OUT/weights.safetensors");
    } else {
        Genotype::named(source)?
    };
    untrained::network(genotype, size, seed)
}

fn inspect(source: &str, untrained: Untrained) -> Result<()> {
    let (graph, metadata): (Graph, BTreeMap<String, String>) = match Path::new(source).extension() {
        Some(end) if end == "onnx" => {
            let read = onnx::read(Path::new(source))?;
            (read.graph, read.metadata)
        }
        _ => {
            let model = load(source, untrained, 0)?;
            (model.graph, model.card.to_metadata()?)
        }
    };
    let total = cost(&graph);
    let mut text =
        format!("{graph}nodes {}, parameters {}, MACs {}\n", graph.nodes().len(), total.params, total.macs);
    for (key, value) in &metadata {
        text.push_str(&format!("{key} = {value}\n"));
    }
    if let Ok(card) = Card::from_metadata(&metadata.into_iter().collect(), source) {
        text.push_str(&format!("genotype {}\n", card.genotype));
    }
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough: `inspect | head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
