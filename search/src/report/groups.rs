//! Section about trainings that differ in their seed only: how fast and how well they learn, and differences between groups.

use milenas_models::html::{percent, table};

use super::read::{EpochRow, RunSummary};
use crate::run::{Difference, SIGNIFICANT, Spread};
use crate::score::spearman;

/// Fewest architectures whose ranks are correlated.
const RANKED: usize = 4;

/// Trainings of an architecture with the same settings, by seed.
struct Group {
    name: String,
    /// Identity: the architecture, and the settings without the seed.
    key: String,
    runs: Vec<Curve>,
}

/// Accuracies of a training.
#[derive(Clone)]
struct Curve {
    seed: u64,
    /// Test accuracy after each epoch.
    test: Vec<f64>,
    /// Training accuracy of the last epoch.
    train: f64,
}

impl Curve {
    fn last(&self) -> f64 {
        self.test.last().copied().unwrap_or(f64::NAN)
    }

    /// Returns the accuracy after a quarter of the epochs.
    fn early(&self) -> f64 {
        self.test.get(self.test.len().div_ceil(4).saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// Returns the mean accuracy over the epochs: the area under the curve.
    fn area(&self) -> f64 {
        Spread::of(&self.test).mean
    }
}

impl Group {
    fn values(&self, seeds: &[u64]) -> Vec<f64> {
        let of = |seed: &u64| self.runs.iter().find(|run| run.seed == *seed).map(Curve::last);
        seeds.iter().filter_map(of).collect()
    }

    /// Returns the mean of a value over the seeds.
    fn mean(&self, of: impl Fn(&Curve) -> f64) -> f64 {
        Spread::of(&self.runs.iter().map(of).collect::<Vec<_>>()).mean
    }
}

/// Returns the section; empty for fewer than two trainings.
pub fn groups(stories: &[RunSummary]) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for story in stories.iter().filter(|story| !story.is_search()) {
        let (Some(genotype), Some(last)) = (story.cells(), story.epochs.last()) else { continue };
        let mut config = story.config.clone();
        let seed = std::mem::take(&mut config.seed);
        let key = format!("{genotype} {}", config.to_toml().unwrap_or_default());
        let test = story.epochs.iter().map(EpochRow::accuracy).collect();
        let run = Curve { seed, test, train: last.train_accuracy };
        match groups.iter_mut().find(|group| group.key == key) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { name: name(story), key, runs: vec![run] }),
        }
    }
    let several = groups.len() > 1 || groups.iter().any(|group| group.runs.len() > 1);
    let Some(first) = groups.first().filter(|_| several) else {
        return String::new();
    };
    let row = |group: &Group| {
        let all: Vec<f64> = group.runs.iter().map(Curve::last).collect();
        let spread = Spread::of(&all);
        let shared = |run: &&Curve| group.runs.iter().any(|own| own.seed == run.seed);
        let seeds: Vec<u64> = first.runs.iter().filter(shared).map(|run| run.seed).collect();
        let difference = Difference::paired(&group.values(&seeds), &first.values(&seeds));
        let difference = difference.filter(|_| group.key != first.key);
        let points = |value: f64| format!("{:.2}", 100.0 * value);
        vec![
            group.name.clone(),
            spread.count.to_string(),
            percent(group.mean(Curve::early)),
            percent(group.mean(Curve::area)),
            percent(group.mean(|run| run.train)),
            percent(spread.mean),
            spread.error().map_or("\u{2013}".into(), points),
            difference
                .map_or("\u{2013}".into(), |d| format!("{:+.2} \u{b1} {}", 100.0 * d.mean, points(d.error))),
            difference.map_or("\u{2013}".into(), |d| format!("{:.3}", d.p)),
            difference.map_or("\u{2013}", |d| if d.is_significant() { "yes" } else { "no" }).into(),
        ]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    let head = [
        "architecture",
        "seeds",
        "after a quarter",
        "mean over epochs",
        "training",
        "test accuracy",
        "standard error",
        "difference",
        "p",
        "differs",
    ];
    let pairs: Vec<(f64, f64)> =
        groups.iter().map(|group| (group.mean(Curve::early), group.mean(Curve::last))).collect();
    let (early, late): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    let correlation = Some(spearman(&early, &late)).filter(|rho| early.len() >= RANKED && rho.is_finite());
    let order = correlation.map_or(String::new(), |rho| {
        format!(
            " Over {} architectures the rank correlation of the accuracy after a quarter of the epochs with that at the end is {rho:.2}.",
            early.len()
        )
    });
    format!(
        "<h2>Trainings by architecture</h2>\n<p>Trainings of an architecture with equal settings, over their seeds. Test accuracy after a quarter of \
         the epochs, its mean over all epochs, and at the end, beside the training accuracy of the last epoch. The difference is that to the \
         first row, paired over common seeds; architectures differ where the p-value of a t-test is below {SIGNIFICANT}.{order}</p>\n{}",
        table(&head, &rows)
    )
}

/// Returns the name of a run folder without the part that names its seed.
fn name(story: &RunSummary) -> String {
    let seeded = story.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
    let path = story.path.parent().filter(|_| seeded).unwrap_or(&story.path);
    path.display().to_string()
}
