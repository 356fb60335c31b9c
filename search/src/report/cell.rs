//! Drawing of a cell: arcs over a line of states. A node's operations alternate between above and below the
//! line.

use std::fmt::Write;

use milenas_models::Primitive;
use milenas_models::genotype::Cell;
use milenas_models::html::escaped;
use milenas_models::space::state_label;

/// Distance between two states.
const STEP: f64 = 84.0;
/// Height of an arc per state that it spans.
const RISE: f64 = 30.0;
const MARGIN: f64 = 44.0;

/// Returns the colour index of an operation, which is that of its candidate in the chart of mixtures.
fn colour(candidates: &[Primitive], primitive: Primitive) -> usize {
    candidates.iter().position(|p| *p == primitive).unwrap_or_default() % 8
}

/// Returns the heading of a group of choices, e.g. `Normal cell`.
pub fn title(group: &str) -> String {
    let mut letters = group.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    format!("{}{} cell", first.unwrap_or_default(), letters.as_str())
}

/// Returns a short label of a candidate.
pub fn short(candidate: &str) -> String {
    let name = candidate.replace("skip_connect", "skip").replace("_conv_", " ").replace("_pool_", " ");
    [3, 5, 7]
        .iter()
        .fold(name, |name, side| name.replace(&format!("{side}x{side}"), &format!("{side}\u{d7}{side}")))
}

/// Draws a cell as SVG. An operation has the colour of its place among the `candidates`.
pub fn draw(title: &str, cell: &Cell, candidates: &[Primitive]) -> String {
    let inputs = cell.inputs();
    let states = inputs + cell.nodes().count();
    // Number of states spanned by the longest arc above and below the line.
    let mut reach = [1, 1];
    for (node, edges) in cell.nodes().enumerate() {
        for (i, edge) in edges.iter().enumerate() {
            reach[i % 2] = reach[i % 2].max(inputs + node - edge.from);
        }
    }
    let [above, below] = reach.map(|states| RISE * states as f64);
    let width = 2.0 * MARGIN + STEP * (states - 1) as f64;
    let middle = above + 18.0;
    let height = middle + below + 18.0;
    let title = escaped(title);
    let mut svg = format!(
        "<div class=\"wide\" tabindex=\"0\"><svg viewBox=\"0 0 {width} {height}\" \
         style=\"min-width:{:.0}px;max-width:{:.0}px\" role=\"img\" aria-label=\"{title}: {}\"><title>{title}</title>",
        0.85 * width,
        1.1 * width,
        escaped(&words(cell))
    );
    let x = |state: usize| MARGIN + STEP * state as f64;
    // Labels are drawn over all arcs.
    let mut labels = String::new();
    for (node, edges) in cell.nodes().enumerate() {
        let to = inputs + node;
        for (edge, side) in edges.iter().zip([-1.0, 1.0].into_iter().cycle()) {
            let rise = RISE * (to - edge.from) as f64;
            let (left, right) = (x(edge.from), x(to));
            let (centre, start) = ((left + right) / 2.0, middle + side * 13.0);
            // The top of a quadratic curve is at half the height of its control point.
            let control = start + side * 2.0 * (rise - 13.0);
            let _ = write!(
                svg,
                "<path class=\"line c{}\" d=\"M{left:.0} {start:.0} Q{centre:.0} {control:.0} {right:.0} {start:.0}\"/>",
                colour(candidates, edge.primitive)
            );
            let _ = write!(
                labels,
                "<text class=\"label\" x=\"{centre:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                middle + side * rise + 4.0,
                escaped(&short(edge.primitive.name()))
            );
        }
    }
    svg += &labels;
    for state in 0..states {
        let label = state_label(inputs, state);
        let class = if cell.concat().contains(&state) { "state kept" } else { "state" };
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{:.0}\" y=\"{:.0}\" width=\"46\" height=\"26\" rx=\"6\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{label}</text>",
            x(state) - 23.0,
            middle - 13.0,
            x(state),
            middle + 4.0
        );
    }
    svg + "</svg></div>"
}

/// Describes the cell in words, for screen readers.
fn words(cell: &Cell) -> String {
    let inputs = cell.inputs();
    let node = |(node, edges): (usize, &[milenas_models::genotype::Edge])| {
        let edge = |e: &milenas_models::genotype::Edge| {
            let from = match inputs.checked_sub(e.from + 1) {
                Some(0) => "the last input".into(),
                Some(_) => "the input before the last".into(),
                None => format!("node {}", e.from - inputs),
            };
            format!("{} of {from}", short(e.primitive.name()))
        };
        format!("node {node} is {}", edges.iter().map(edge).collect::<Vec<_>>().join(" plus "))
    };
    cell.nodes().enumerate().map(node).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use milenas_models::Genotype;

    use super::*;

    #[test]
    fn every_operation_is_drawn_and_named() {
        let genotype = Genotype::named("DARTS_V2").unwrap();
        let svg = draw("normal cell", genotype.cell("normal").unwrap(), &Primitive::DARTS);
        assert_eq!(svg.matches("<path").count(), 8);
        assert_eq!(svg.matches("class=\"label\"").count(), 8);
        assert_eq!(svg.matches("state kept").count(), 4);
        assert_eq!(svg.matches(">sep 3\u{d7}3</text>").count(), 5);
        assert_eq!(short("max_pool_3x3"), "max 3\u{d7}3");
        assert!(svg.contains("node 3 is skip of the input before the last plus dil 3\u{d7}3 of node 0"));
    }
}
