//! `milenas-export inspect`: a summary of a network, and on request its graph, its cells as DOT and its latency.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, bail};
use milenas_export::{onnx, unwrap_io};
use milenas_models::{CARD_KEY, Card, Graph, Weights, cost, file};

use crate::cli::Untrained;
use crate::commands::{SIZED, load, say};
use crate::{draw, latency};

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
    for (key, value) in inspected.metadata.iter().filter(|(key, _)| *key != CARD_KEY) {
        let _ = writeln!(text, "{key} = {value}");
    }
    if let Some(card) = &card {
        let _ = writeln!(text, "card        {}", serde_json::to_string_pretty(&without_genotype(card)?)?);
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

/// A card as JSON, without what the summary has printed.
fn without_genotype(card: &Card) -> Result<serde_json::Value> {
    let mut json = serde_json::to_value(card)?;
    if let Some(fields) = json.as_object_mut() {
        fields.remove("genotype");
    }
    Ok(json)
}
