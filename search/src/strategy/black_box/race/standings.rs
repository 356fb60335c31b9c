//! Order of the architectures of a race.

use milenas_models::Genotype;

use crate::strategy::black_box::Evaluated;

/// Number of the rung in which random architectures of the size of the choice are trained. It chooses nothing.
pub const CHANCE: usize = 4;

/// Returns the evaluations of a rung.
pub(super) fn rung(trained: &[Evaluated], number: usize) -> Vec<&Evaluated> {
    trained.iter().filter(|found| found.run.is_some_and(|run| run.rung == number)).collect()
}

/// Returns the `count` architectures of the largest values, the first evaluated on ties.
pub(super) fn strongest(evaluated: &[&Evaluated], count: usize) -> Vec<Genotype> {
    let mut order = evaluated.to_vec();
    order.sort_by(|a, b| b.value.total_cmp(&a.value));
    order.into_iter().take(count).map(|found| found.genotype.clone()).collect()
}

/// Returns the architectures in the order of the race: those of the highest rung first, among them by the mean of their
/// values from the second rung on, or of the first one if they have no other. Trainings on smaller images than the last one
/// do not count, nor do those of random architectures after the race. The value is this mean, and the run is the last one.
pub fn standings(trained: &[Evaluated]) -> Vec<Evaluated> {
    let raced: Vec<&Evaluated> = trained.iter().filter(|found| number(found) != CHANCE).collect();
    let mut found: Vec<Evaluated> = Vec::new();
    for last in raced.iter().rev() {
        if found.iter().any(|known| known.genotype == last.genotype) {
            continue;
        }
        let size = |found: &Evaluated| found.run.map(|run| run.size);
        let own = raced.iter().filter(|other| other.genotype == last.genotype && size(other) == size(last));
        let values = |late: bool| -> Vec<f64> {
            own.clone().filter(|other| (number(other) > 1) == late).map(|other| other.value).collect()
        };
        let values = if number(last) > 1 { values(true) } else { values(false) };
        let value = values.iter().sum::<f64>() / values.len() as f64;
        found.push(Evaluated { value, ..(*last).clone() });
    }
    // Among equal values the first evaluated is first.
    found.reverse();
    found.sort_by(|a, b| number(b).cmp(&number(a)).then(b.value.total_cmp(&a.value)));
    found
}

/// Returns the rung of a training.
fn number(found: &Evaluated) -> usize {
    found.run.map_or(0, |run| run.rung)
}
