//! Untrained networks, built from a genotype alone, for tests and for measuring speed before training.

use std::collections::BTreeMap;

use milenas_models::graph::Patch;
use milenas_models::input::{ImageSize, Resize};
use milenas_models::op::{BatchNorm, Op};
use milenas_models::{
    Card, Executor, Genotype, Graph, InputContract, Mode, Model, NetworkConfig, Weights, assemble,
};

use crate::Result;
use crate::verify::random_inputs;

/// Size of a network, which the genotype does not fix. The default is the CIFAR-10 network of DARTS (section
/// 3.2).
#[derive(Clone, Copy, Debug)]
pub struct UntrainedSize {
    /// Channels of a node in the first cells.
    pub channels: usize,
    /// Number of cells.
    pub layers: usize,
    /// Number of classes.
    pub classes: usize,
    /// Height and width of the input, in pixels.
    pub size: usize,
}

impl Default for UntrainedSize {
    fn default() -> Self {
        UntrainedSize { channels: 36, layers: 20, classes: 10, size: 32 }
    }
}

/// Builds a network with initial weights. Its BatchNorm statistics are those of noise images, and its card
/// states that it is untrained.
///
/// # Errors
/// [`milenas_models::Error`] if no network has this size.
pub fn network(genotype: Genotype, size: UntrainedSize, seed: u64) -> Result<Model> {
    let UntrainedSize { channels, layers, classes, size } = size;
    let network = NetworkConfig {
        channels,
        layers,
        classes,
        in_channels: 3,
        height: size,
        width: size,
        skeleton: Default::default(),
    };
    let graph = assemble(&genotype, &network)?;
    let weights = Weights::init(&graph, seed)?;
    calibrate(&graph, &weights, seed)?;
    let (mean, std) = (vec![0.5; 3], vec![0.5; 3]);
    let input = InputContract::new(ImageSize::square(size), 3, mean, std, Resize::Stretch);
    let record =
        [("program", format!("milenas-export {}", env!("CARGO_PKG_VERSION"))), ("trained", "no".into())];
    let record = record.map(|(key, value)| (key.to_string(), value));
    let labels = (0..classes).map(|i| format!("class {i}")).collect();
    let card =
        Card { version: Card::VERSION, genotype, network, labels, input, record: BTreeMap::from(record) };
    Ok(Model { card, graph, weights })
}

/// Sets the running statistics to those of seven noise images. With the initial statistics, 0 and 1, signals
/// fade from cell to cell until the logits no longer depend on the image.
fn calibrate(graph: &Graph, weights: &Weights, seed: u64) -> Result<()> {
    let mut patch = Patch::new();
    for (value, node) in graph.values() {
        let Op::BatchNorm(norm) = &node.op else { continue };
        let all_at_once = BatchNorm { momentum: 1.0, ..norm.clone() };
        let x = patch.tap(node.inputs[0]);
        let params = node.params.iter().map(|p| p.name.clone()).collect();
        let norm = patch.wire(graph, &node.name, all_at_once, &[x], Some(params))?;
        patch.shunt(graph, value, norm)?;
    }
    // The copy shares its tensors with `weights`, so training mode updates the statistics of both.
    let (mut graph, mut weights) = (graph.clone(), weights.clone());
    patch.apply(&mut graph, &mut weights)?;
    let inputs = random_inputs(&graph, seed)?.pop().unwrap_or_default();
    Executor::new(&graph, &weights).run(&inputs, Mode::Train)?;
    Ok(())
}
