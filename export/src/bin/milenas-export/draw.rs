//! Cells of a genotype as text and as Graphviz DOT, and a table of the cost of each cell of a network.

use std::collections::BTreeMap;

use milenas_models::genotype::Cell;
use milenas_models::{Genotype, Graph};

/// Returns the name of state `i`. The first states are the outputs of the preceding cells; the nodes of the
/// cell follow.
fn state(cell: &Cell, i: usize) -> String {
    match cell.inputs().checked_sub(i + 1) {
        Some(before) => format!("c_{{k-{}}}", before + 1),
        None => format!("node {}", i - cell.inputs()),
    }
}

/// Formats the cells of a genotype, one node per line.
pub fn text(genotype: &Genotype) -> String {
    let mut text = String::new();
    for (kind, cell) in genotype.cells() {
        text.push_str(&format!("{kind} cell\n"));
        for (i, edges) in cell.nodes().enumerate() {
            let edges: Vec<String> =
                edges.iter().map(|e| format!("{}({})", e.primitive.name(), state(cell, e.from))).collect();
            text.push_str(&format!("  {} = {}\n", state(cell, i + cell.inputs()), edges.join(" + ")));
        }
        let out: Vec<String> = cell.concat().iter().map(|&i| state(cell, i)).collect();
        text.push_str(&format!("  c_{{k}} = {}\n", out.join(", ")));
    }
    text
}

/// Formats a genotype as a DOT digraph with one cluster per cell.
pub fn dot(genotype: &Genotype) -> String {
    let mut text =
        String::from("digraph genotype {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for (kind, cell) in genotype.cells() {
        text.push_str(&format!("  subgraph cluster_{kind} {{\n    label=\"{kind} cell\";\n"));
        let inputs = cell.inputs();
        let states = inputs + cell.nodes().count();
        (0..states).for_each(|i| text.push_str(&format!("    {kind}_{i} [label=\"{}\"];\n", state(cell, i))));
        text.push_str(&format!("    {kind}_out [label=\"c_{{k}}\"];\n"));
        for (node, edges) in cell.nodes().enumerate() {
            for edge in edges {
                let (from, to, name) = (edge.from, node + inputs, edge.primitive.name());
                text.push_str(&format!("    {kind}_{from} -> {kind}_{to} [label=\"{name}\"];\n"));
            }
        }
        cell.concat().iter().for_each(|i| text.push_str(&format!("    {kind}_{i} -> {kind}_out;\n")));
        text.push_str("  }\n");
    }
    text + "}\n"
}

/// Formats a table of nodes, parameters and multiply-accumulates: one row per cell and one for the rest. Node
/// names assign nodes to cells. A parameter that several nodes read counts for the first of them.
pub fn costs(graph: &Graph) -> String {
    let mut parts: BTreeMap<(usize, String), [u64; 3]> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    for node in graph.nodes() {
        let cell = node.name.strip_prefix("cells.").and_then(|rest| rest.split('.').next()?.parse().ok());
        let part = match cell {
            Some(n) => (n, format!("cell {n}")),
            None => (usize::MAX, "the rest".to_string()),
        };
        let [nodes, params, macs] = parts.entry(part).or_default();
        let fresh = node.params.iter().filter(|p| p.role.is_trainable() && seen.insert(p.name.as_str()));
        *nodes += 1;
        *params += fresh.map(|p| p.shape.iter().product::<usize>() as u64).sum::<u64>();
        *macs += node.op.macs(&node.fact);
    }
    let mut text = format!("{:10} {:>6} {:>12} {:>14}\n", "part", "nodes", "parameters", "MACs");
    for ((_, name), [nodes, params, macs]) in parts {
        text.push_str(&format!("{name:10} {nodes:>6} {params:>12} {macs:>14}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use milenas_models::{NetworkConfig, assemble, cost};

    use super::*;

    #[test]
    fn cells_are_drawn_edge_by_edge() {
        let genotype = Genotype::named("DARTS_V2").unwrap();
        let text = text(&genotype);
        assert!(text.contains("  node 0 = sep_conv_3x3(c_{k-2}) + sep_conv_3x3(c_{k-1})\n"), "{text}");
        let dot = dot(&genotype);
        assert_eq!(dot.matches("normal_0 -> normal_2 [label=\"sep_conv_3x3\"]").count(), 1, "{dot}");
        // Each cell has 8 edges between states and 4 edges to its output.
        assert_eq!(dot.matches(" -> ").count(), 24, "{dot}");
        assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    }

    #[test]
    fn costs_of_parts_add_up() {
        let network = NetworkConfig {
            channels: 4,
            layers: 3,
            classes: 10,
            in_channels: 3,
            height: 16,
            width: 16,
            skeleton: Default::default(),
        };
        let graph = assemble(&Genotype::named("DARTS_V2").unwrap(), &network).unwrap();
        let table = costs(&graph);
        let column = |i: usize| -> u64 {
            let rows = table.lines().skip(1).map(|line| line.split_whitespace().rev().nth(i).unwrap());
            rows.map(|n| n.parse::<u64>().unwrap()).sum()
        };
        let total = cost(&graph);
        assert_eq!((column(0), column(1), column(2)), (total.macs, total.params, graph.nodes().len() as u64));
        assert_eq!(table.lines().count(), 5, "{table}");
    }
}
