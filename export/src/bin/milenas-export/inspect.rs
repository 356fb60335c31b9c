//! `milenas-export inspect`: prints a summary of a network. Options add its graph, its schedule, its cells as DOT and its
//! latency.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, bail};
use milenas_export::{onnx, unwrap_io};
use milenas_models::error::some_of;
use milenas_models::fused::FusedNetwork;
use milenas_models::{CARD_KEY, Card, Graph, Weights, cost, file};

use crate::cli::{InspectOptions, Untrained};
use crate::commands::{SIZED, load, say};
use crate::{draw, latency};

/// Longest metadata value that is printed whole, in characters.
const LONGEST: usize = 200;

/// Network with the metadata of its file.
struct Inspected {
    graph: Graph,
    weights: Weights,
    metadata: BTreeMap<String, String>,
    /// True if the file's input is uint8.
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

    /// Formats inputs and outputs with their shapes, then the cost of the network: the total and one row per
    /// cell.
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

/// Prints the summary of a file. Adds the graph, the schedule and the latency on request, and writes the cells to a file if
/// one is given.
pub fn inspect(options: &InspectOptions) -> Result<()> {
    let InspectOptions { ref file, graph, schedule, ref dot, latency: measured, untrained } = *options;
    let (source, dot) = (file.as_str(), dot.as_deref());
    if let Some(dot) = dot {
        file::check_outputs(&[("--dot", dot)], &[("the file", Path::new(source))])?;
    }
    let inspected = Inspected::open(source, untrained)?;
    let card = Card::from_metadata(&inspected.metadata.clone().into_iter().collect(), source).ok();
    let mut text = String::new();
    if let Some(card) = &card {
        let _ = writeln!(text, "genotype {}", card.genotype);
        text.push_str(&draw::text(&card.genotype));
    }
    match (&card, dot) {
        (Some(card), Some(path)) => file::write(path, draw::dot(&card.genotype).as_bytes())?,
        (None, Some(_)) => {
            bail!(
                "{source}: it has no model card, so its cells are unknown. help: --dot needs a file of this project"
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
    if measured || schedule.is_some() {
        // milenas-infer also computes normalisation and softmax outside the network.
        let Inspected { mut graph, mut weights, bytes, .. } = inspected;
        let mut contract = card.filter(|_| bytes).map(|card| card.input);
        unwrap_io(&mut graph, &mut weights, contract.as_mut())?;
        if let Some(format) = schedule {
            match FusedNetwork::for_evaluation(&graph, &weights, format.into())? {
                Ok(network) => text.extend(network.schedule().map(|schedule| schedule.to_string())),
                Err(reason) => bail!("{source}: it has no schedule, since {reason}"),
            }
        }
        if measured {
            text.push_str(&latency::lines(&graph, &weights)?);
        }
    }
    say(&text)
}

/// Formats the fields of a card besides the genotype: labels, network size, input contract and record.
fn described(card: &Card) -> Result<String> {
    let mut text = format!("labels      {}: {}\n", card.labels.len(), some_of(&card.labels));
    let _ = writeln!(text, "network     {}", serde_json::to_string(&card.network)?);
    let _ = writeln!(text, "images      {}", serde_json::to_string(&card.input)?);
    for (key, value) in &card.record {
        let _ = writeln!(text, "record      {key} = {value}");
    }
    Ok(text)
}

/// Returns the first [`LONGEST`] characters of a text.
fn brief(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}
