//! Section about the evaluations of a black-box search: values in order, and the best architectures.

use milenas_models::html::{figure, percent, table};

use super::read::RunSummary;
use super::svg::{Series, lines};
use crate::run::Spread;
use crate::score::Score;
use crate::strategy::black_box::{CHANCE, Evaluated, Strategy, standings};

/// Number of architectures in the table.
const NAMED: usize = 20;

/// Returns the section; empty without evaluations.
pub fn evaluated(story: &RunSummary) -> String {
    let evaluated = story.evaluated.as_deref().unwrap_or_default();
    if evaluated.is_empty() {
        return String::new();
    }
    if evaluated.iter().any(|found| found.run.is_some()) {
        return race(evaluated);
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

/// Returns the section of a race: every architecture with its accuracy in each rung, the choice first.
fn race(evaluated: &[Evaluated]) -> String {
    let last = |found: &Evaluated| found.run.map_or(0, |run| run.rung);
    let rungs = evaluated.iter().map(last).filter(|rung| *rung != CHANCE).max().unwrap_or_default();
    let standings = standings(evaluated);
    let row = |(place, found): (usize, &Evaluated)| {
        let value = |rung: usize| {
            let of = evaluated.iter().find(|e| e.genotype == found.genotype && last(e) == rung);
            of.map_or("\u{2013}".into(), |e| percent(e.value))
        };
        let mut row = vec![(place + 1).to_string()];
        row.extend((1..=rungs).map(value));
        row.extend([percent(found.value), found.genotype.to_string()]);
        row
    };
    let rows: Vec<_> = standings.iter().enumerate().map(row).collect();
    let heads: Vec<String> = (1..=rungs)
        .map(|rung| {
            let run = evaluated.iter().filter_map(|e| e.run).find(|run| run.rung == rung);
            let of = run.map(|run| (run.steps, run.size.width, run.size.height));
            of.map_or(String::new(), |(steps, width, height)| {
                format!("rung {rung}: {steps} steps, {width}x{height} pixels")
            })
        })
        .collect();
    let mut head = vec!["place"];
    head.extend(heads.iter().map(String::as_str));
    head.extend(["result", "architecture"]);
    let chance: Vec<f64> =
        evaluated.iter().filter(|found| last(found) == CHANCE).map(|found| found.value).collect();
    let chance = match (&chance[..], standings.first()) {
        ([], _) | (_, None) => "What chance gives is not known. Resume the run with search.strategies.race.random=3, and as many random \
                      architectures of the size of the choice are trained as in rung three."
            .into(),
        (values, Some(choice)) => {
            let spread = Spread::of(values);
            let error = spread.error().map_or(String::new(), |error| format!(" \u{b1} {:.2}", 100.0 * error));
            format!(
                "Chance: {} random architectures of the size of the choice have a mean of {}{error}, after trainings as in rung \
                 three, where the choice has {}.",
                spread.count,
                percent(spread.mean),
                percent(choice_in_last_rung(evaluated, choice)),
            )
        }
    };
    let gap = match &standings[..] {
        [first, second, ..] if last(first) == last(second) && last(first) > 1 => format!(
            " The runner-up is {:.2} points behind; one training each does not tell architectures this close apart.",
            100.0 * (first.value - second.value)
        ),
        _ => String::new(),
    };
    format!(
        "<h2>Race</h2>\n<p>Validation accuracy in each rung. Every training starts anew, with a whole schedule. The result is the mean \
         from rung two on, of trainings whose images have the size of the last one. The first row is the choice.{gap}</p>\n<p>{chance}</p>\n{}",
        table(&head, &rows)
    )
}

/// Returns the accuracy of an architecture in its last rung.
fn choice_in_last_rung(evaluated: &[Evaluated], choice: &Evaluated) -> f64 {
    let own = evaluated.iter().filter(|found| found.genotype == choice.genotype && found.run == choice.run);
    own.map(|found| found.value).next_back().unwrap_or(choice.value)
}
