//! `milenas-export inspect`: a summary of a network, and on request its graph, its cells as DOT and its latency.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, bail};
use milenas_export::{onnx, unwrap_io};
use milenas_models::error::some_of;
use milenas_models::{CARD_KEY, Card, Graph, Weights, cost, file};

use crate::cli::Untrained;
use crate::commands::{SIZED, load, say};
use crate::{draw, latency};

/// Largest number of characters of a metadata value that are printed.
const LONGEST: usize = 200;

/// A network, and the metadata of its file.
struct Inspected {
    graph: Graph,
    weights: Weights,
    metadata: BTreeMap<String, String>,
    /// True if the input takes bytes.
    bytes: bool,
}

impl Inspected {
    fn open(source: &str, untrained: Untrained) -> Result<Self> {
        if Path::new(source).extension().is_none_or(|end| end != "onnx") {
            let model = load(source, untrained, 0)?;
            let metadata = model.card.to_metadata()?;
            return Ok(Inspected { graph: model.graph, weights: model.weights, metadata, bytes: false });
        }
        if untrained.is_asked() {
            bail!("{source}: {SIZED}");
        }
        let read = onnx::read(Path::new(source))?;
        Ok(Inspected { graph: read.graph, weights: read.weights, metadata: read.metadata, bytes: read.bytes })
    }

    /// Inputs and outputs with their shapes, and what the network costs, in all and cell by cell.
    fn summary(&self) -> String {
        let graph = &self.graph;
        let mut text = String::new();
        for value in graph.inputs() {
            let kind = if self.bytes { "uint8" } else { "float32" };
            let _ = writeln!(text, "input       {} {kind} {}", graph.node(value).name, graph.fact(value));
        }
        for (name, value) in graph.outputs() {
            let _ = writeln!(text, "output      {name} float32 {}", graph.fact(*value));
        }
        let total = cost(graph);
        let _ = writeln!(text, "nodes       {}", graph.nodes().len());
        let _ = writeln!(text, "parameters  {}", total.params);
        let _ = writeln!(text, "MACs        {}", total.macs);
        text + &draw::costs(graph)
    }
}

/// Prints the summary of `source`, then the graph and the latency if they are asked for; writes the cells to `dot`.
pub fn inspect(
    source: &str,
    graph: bool,
    dot: Option<&Path>,
    measured: bool,
    untrained: Untrained,
) -> Result<()> {
    if let Some(dot) = dot {
        file::check_outputs(&[("--dot", dot)], &[("the file", Path::new(source))])?;
    }
    let inspected = Inspected::open(source, untrained)?;
    let card = Card::from_metadata(&inspected.metadata.clone().into_iter().collect(), source).ok();
    let mut text = String::new();
    if let Some(card) = &card {
        let _ = writeln!(text, "genotype    {}", card.genotype);
        text.push_str(&draw::text(&card.genotype));
    }
    match (&card, dot) {
        (Some(card), Some(path)) => file::write(path, draw::dot(&card.genotype).as_bytes())?,
        (None, Some(_)) => {
            bail!(
                "{source}: without a card there are no cells to draw. Help: --dot needs a file of this project"
            )
        }
        (_, None) => {}
    }
    text.push_str(&inspected.summary());
    if let Some(card) = &card {
        text.push_str(&described(card)?);
    }
    for (key, value) in inspected.metadata.iter().filter(|(key, _)| *key != CARD_KEY) {
        let _ = writeln!(text, "metadata    {key} = {}", brief(value));
    }
    if graph {
        text.push_str(&inspected.graph.to_string());
    }
    if measured {
        // As milenas-infer runs it: normalisation and softmax are outside the network.
        let Inspected { mut graph, mut weights, bytes, .. } = inspected;
        let mut contract = card.filter(|_| bytes).map(|card| card.input);
        unwrap_io(&mut graph, &mut weights, contract.as_mut())?;
        text.push_str(&latency::lines(&graph, &weights)?);
    }
    say(&text)
}

/// What a card says besides the genotype: labels, size of the network, preparation of images, record.
fn described(card: &Card) -> Result<String> {
    let mut text = format!("labels      {}: {}\n", card.labels.len(), some_of(&card.labels));
    let _ = writeln!(text, "network     {}", serde_json::to_string(&card.network)?);
    let _ = writeln!(text, "images      {}", serde_json::to_string(&card.input)?);
    for (key, value) in &card.record {
        let _ = writeln!(text, "record      {key} = {value}");
    }
    Ok(text)
}

/// The first characters of a text.
fn brief(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}
