//! Compiles an untrained DARTS_V2 network and prints every patch that a pass applied.
//!
//! ```text
//! cargo run -p milenas-export --example passes
//! ```
#![allow(clippy::print_stdout)]

use milenas_export::untrained::{UntrainedSize, network};
use milenas_export::verify::NetworkRef;
use milenas_export::{ExportOptions, Result, compile};
use milenas_models::Genotype;

fn main() -> Result<()> {
    let size = UntrainedSize { channels: 8, layers: 6, ..UntrainedSize::default() };
    let model = network(Genotype::named("DARTS_V2")?, size, 0)?;
    let source = NetworkRef { graph: &model.graph, weights: &model.weights };
    let mut print = |patch: &milenas_export::passes::AppliedPatch| {
        println!("{:4} {:20} at {}", patch.number, patch.pass, patch.at);
    };
    let (graph, _) = compile(source, &ExportOptions::default(), &mut print)?;
    println!("{} nodes -> {} nodes", model.graph.nodes().len(), graph.nodes().len());
    Ok(())
}
