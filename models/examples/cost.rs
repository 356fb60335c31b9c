//! Parameters and multiply-accumulates of the CIFAR-10 network of DARTS_V2.
//!
//! ```text
//! cargo run -p milenas-models --example cost
//! ```
#![allow(clippy::print_stdout)]

use milenas_models::{Genotype, NetworkConfig, Result, assemble, cost};

fn main() -> Result<()> {
    let genotype = Genotype::named("DARTS_V2")?;
    let network = NetworkConfig {
        channels: 36,
        layers: 20,
        classes: 10,
        in_channels: 3,
        height: 32,
        width: 32,
        skeleton: Default::default(),
    };
    let graph = assemble(&genotype, &network)?;
    let total = cost(&graph);
    println!("{genotype}");
    println!(
        "{} nodes, {} parameters, {} multiply-accumulates",
        graph.nodes().len(),
        total.params,
        total.macs
    );
    Ok(())
}
