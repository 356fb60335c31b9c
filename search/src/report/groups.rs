//! Section about trainings that differ in their seed only: means with standard errors, and differences between groups.

use milenas_models::html::{percent, table};

use super::read::{EpochRow, RunSummary};
use crate::run::{Difference, SIGNIFICANT, Spread};

/// Trainings of an architecture with the same settings, by seed.
struct Group {
    name: String,
    /// Identity: the architecture, and the settings without the seed.
    key: String,
    /// Seed and test accuracy.
    runs: Vec<(u64, f64)>,
}

impl Group {
    fn values(&self, seeds: &[u64]) -> Vec<f64> {
        let of = |seed: &u64| self.runs.iter().find(|(own, _)| own == seed).map(|(_, value)| *value);
        seeds.iter().filter_map(of).collect()
    }
}

/// Returns the section; empty unless an architecture was trained with several seeds.
pub fn groups(stories: &[RunSummary]) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for story in stories.iter().filter(|story| !story.is_search()) {
        let (Some(genotype), Some(last)) = (story.cells(), story.epochs.last()) else { continue };
        let mut config = story.config.clone();
        let seed = std::mem::take(&mut config.seed);
        let key = format!("{genotype} {}", config.to_toml().unwrap_or_default());
        let run = (seed, EpochRow::accuracy(last));
        match groups.iter_mut().find(|group| group.key == key) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { name: name(story), key, runs: vec![run] }),
        }
    }
    let Some(first) = groups.first().filter(|_| groups.iter().any(|group| group.runs.len() > 1)) else {
        return String::new();
    };
    let row = |group: &Group| {
        let all: Vec<f64> = group.runs.iter().map(|(_, value)| *value).collect();
        let spread = Spread::of(&all);
        let shared = |(seed, _): &(u64, f64)| group.runs.iter().any(|(own, _)| own == seed);
        let seeds: Vec<u64> = first.runs.iter().filter(|run| shared(run)).map(|(seed, _)| *seed).collect();
        let difference = Difference::paired(&group.values(&seeds), &first.values(&seeds));
        let difference = difference.filter(|_| group.key != first.key);
        let points = |value: f64| format!("{:.2}", 100.0 * value);
        vec![
            group.name.clone(),
            spread.count.to_string(),
            percent(spread.mean),
            spread.error().map_or("\u{2013}".into(), points),
            difference
                .map_or("\u{2013}".into(), |d| format!("{:+.2} \u{b1} {}", 100.0 * d.mean, points(d.error))),
            difference.map_or("\u{2013}".into(), |d| format!("{:.3}", d.p)),
            difference.map_or("\u{2013}", |d| if d.is_significant() { "yes" } else { "no" }).into(),
        ]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    let head = ["architecture", "seeds", "test accuracy", "standard error", "difference", "p", "differs"];
    format!(
        "<h2>Trainings by architecture</h2>\n<p>Trainings of an architecture with equal settings, over their seeds. The difference is that to the \
         first row, paired over common seeds; architectures differ where the p-value of a t-test is below {SIGNIFICANT}.</p>\n{}",
        table(&head, &rows)
    )
}

/// Returns the name of a run folder without the part that names its seed.
fn name(story: &RunSummary) -> String {
    let seeded = story.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
    let path = story.path.parent().filter(|_| seeded).unwrap_or(&story.path);
    path.display().to_string()
}
