//! What each command does, and what it prints.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use milenas_export::passes::{Pass, SIMPLIFY};
use milenas_export::verify::Network;
use milenas_export::{Options, export_file, onnx};
use milenas_models::input::Resize;
use milenas_models::{
    Card, Error, Genotype, Graph, InputContract, Model, NetworkConfig, Weights, assemble, cost, file,
};

use crate::cli::{Cli, Command, Export, Untrained};

/// The largest genotype file, in bytes.
const MAX_GENOTYPE_BYTES: u64 = 1 << 20;

/// Does what was asked.
pub fn execute(cli: Cli) -> Result<()> {
    match (cli.command, cli.export) {
        (Some(Command::Inspect { file, untrained }), _) => inspect(&file, untrained),
        (None, Some(export)) => compile(&export),
        (None, None) => bail!("nothing to do. Help: milenas-export --help"),
    }
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
fn compile(arguments: &Export) -> Result<()> {
    let model = load(&arguments.source, arguments.untrained, arguments.seed)?;
    let passes = chosen(arguments.passes.as_deref())?;
    let options =
        Options { passes: &passes, steps: arguments.steps, seed: arguments.seed, ..Options::default() };
    let network = Network { graph: &model.graph, weights: &model.weights };
    let report =
        export_file(&arguments.output, network, &model.card.to_metadata()?, &options, &mut |step| {
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
    println!("wrote       {} ({} bytes)", arguments.output.display(), report.bytes);
    println!("next        milenas-infer classify {} IMAGE...", arguments.output.display());
    Ok(())
}

/// The passes of these names, in the order of the pipeline.
fn chosen(names: Option<&str>) -> Result<Vec<&'static dyn Pass>> {
    let names: Vec<&str> = match names {
        None => return Ok(SIMPLIFY.to_vec()),
        Some("none") => Vec::new(),
        Some(names) => names.split(',').map(str::trim).collect(),
    };
    let known = || SIMPLIFY.iter().map(|pass| pass.name());
    if let Some(unknown) = names.iter().find(|name| !known().any(|k| k == **name)) {
        return Err(Error::unknown("pass", *unknown, known()).into());
    }
    Ok(SIMPLIFY.iter().copied().filter(|pass| names.contains(&pass.name())).collect())
}

/// Trained weights with their card; or the untrained network of a genotype.
fn load(source: &str, untrained: Untrained, seed: u64) -> Result<Model> {
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
    let Untrained { channels, layers, classes, size } = untrained;
    let network = NetworkConfig { channels, layers, classes, in_channels: 3, height: size, width: size };
    let graph = assemble(&genotype, &network)?;
    let weights = Weights::init(&graph, seed)?;
    let (mean, std) = (vec![0.5; 3], vec![0.5; 3]);
    let input = InputContract {
        height: size,
        width: size,
        channels: 3,
        mean,
        std,
        resize: Resize::Stretch,
        background: Some([255; 3]),
    };
    let record =
        [("program", format!("milenas-export {}", env!("CARGO_PKG_VERSION"))), ("trained", "no".into())];
    let record = record.map(|(key, value)| (key.to_string(), value));
    let labels = (0..classes).map(|i| format!("class {i}")).collect();
    let card =
        Card { version: Card::VERSION, genotype, network, labels, input, record: BTreeMap::from(record) };
    Ok(Model { card, graph, weights })
}

#[allow(clippy::print_stdout)]
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
    print!("{graph}");
    println!("nodes {}, parameters {}, MACs {}", graph.nodes().len(), total.params, total.macs);
    for (key, value) in &metadata {
        println!("{key} = {value}");
    }
    if let Ok(card) = Card::from_metadata(&metadata.into_iter().collect(), source) {
        println!("genotype {}", card.genotype);
    }
    Ok(())
}
