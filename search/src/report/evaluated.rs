//! Section about the evaluations of a black-box search: values in order, and the best architectures.

use milenas_models::html::{figure, percent, table};

use super::read::RunSummary;
use super::svg::{Series, lines};
use crate::score::Score;
use crate::strategy::black_box::{Evaluated, Strategy};

/// Number of architectures in the table.
const NAMED: usize = 20;

/// Returns the section; empty without evaluations.
pub fn evaluated(story: &RunSummary) -> String {
    let evaluated = story.evaluated.as_deref().unwrap_or_default();
    if evaluated.is_empty() {
        return String::new();
    }
    let strategy = story.config.search.black_box();
    let trained = strategy.is_some_and(Strategy::trains);
    let score = strategy.and_then(Strategy::score).map_or("score", Score::name);
    let (title, factor) = if trained { ("Validation accuracy, %", 100.0) } else { (score, 1.0) };
    let (mut all, mut best) = (Vec::new(), Vec::new());
    let mut most = f64::NEG_INFINITY;
    for (number, Evaluated { value, .. }) in evaluated.iter().enumerate() {
        most = most.max(*value);
        all.push((number as f64 + 1.0, factor * value));
        best.push((number as f64 + 1.0, factor * most));
    }
    let series = [("evaluated", all), ("best so far", best)].map(|(name, mut points)| {
        // A network that passes no signal scores minus infinity.
        points.retain(|(_, value)| value.is_finite());
        Series { name: name.into(), points }
    });
    let mut order: Vec<usize> = (0..evaluated.len()).collect();
    order.sort_by(|a, b| evaluated[*b].value.total_cmp(&evaluated[*a].value));
    let row = |&i: &usize| {
        let Evaluated { genotype, value, .. } = &evaluated[i];
        let value = if trained { percent(*value) } else { format!("{value:.3}") };
        vec![(i + 1).to_string(), value, genotype.to_string()]
    };
    let rows: Vec<_> = order.iter().take(NAMED).map(row).collect();
    let head = ["evaluation", if trained { "validation" } else { score }, "architecture"];
    format!(
        "<h2>Evaluations</h2>\n<div class=\"grid curves\">{}</div>\n<details><summary>Best architectures</summary>\n{}</details>\n",
        figure(title, &lines(title, "evaluation", &series)),
        table(&head, &rows)
    )
}
