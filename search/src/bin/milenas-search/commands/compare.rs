//! `milenas-search compare`: trains several architectures with the same settings.

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, bail};
use milenas_models::{Cost, Genotype, NetworkConfig, Skeleton, assemble, cost, file};
use serde::Serialize;

use super::train::Job;
use super::{open_device, read_genotype, resolve};
use crate::cli::RunOptions;
use crate::command_line::command_line;
use milenas_search::bench::latency;
use milenas_search::config::TrainConfig;
use milenas_search::next::NextStep;
use milenas_search::run::{Difference, InitialWeights, SIGNIFICANT, Spread};

/// Result of one architecture, or of all random ones together.
#[derive(Debug, Serialize)]
struct ComparedRow {
    name: String,
    /// Number of parameters; the mean in the row of all random ones.
    params: u64,
    /// Number of multiply-accumulates per image; the mean in the row of all random ones.
    macs: u64,
    /// Latency of one image on one thread, in milliseconds.
    latency_ms: f64,
    test_accuracy: Vec<f64>,
    spread: Spread,
    /// Difference to the first architecture, paired over the seeds; of all random ones, by the mean of each.
    difference: Option<Difference>,
}

/// Largest relative difference of the parameters of random genotypes from those of the first, with `--same-size`.
const SAME_SIZE: f64 = 0.05;
/// Number of seeds that are tried for random genotypes of a size.
const TRIES: u64 = 50_000;

/// Returns N for `random:N`, and the space with N for `random:SPACE:N`.
fn random_count(name: &str) -> Result<Option<(String, u64)>> {
    let Some(rest) = name.strip_prefix("random:") else { return Ok(None) };
    let (prefix, count) = match rest.rsplit_once(':') {
        Some((space, count)) => (format!("random:{space}"), count),
        None => ("random".to_string(), rest),
    };
    let expected = || format!("{name}: expected random:N or random:SPACE:N, e.g. random:8");
    let count: u64 = count.parse().with_context(expected)?;
    if !(1..=1000).contains(&count) {
        bail!("{name}: expected 1 to 1000 random genotypes");
    }
    Ok(Some((prefix, count)))
}

/// Expands `random:N` and `random:SPACE:N` into the names of N genotypes that are `suitable`, and checks that no name is
/// repeated.
fn names(genotypes: &[String], suitable: &dyn Fn(&str) -> Result<bool>) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in genotypes {
        let Some((prefix, count)) = random_count(name)? else {
            names.push(name.clone());
            continue;
        };
        let mut found = 0;
        for name in (1..=TRIES).map(|seed| format!("{prefix}:{seed}")) {
            if suitable(&name)? {
                names.push(name);
                found += 1;
            }
            if found == count {
                break;
            }
        }
        if found < count {
            bail!(
                "{name}: {found} of {TRIES} random genotypes have the size of the first genotype. help: ask for fewer"
            );
        }
    }
    match (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
        Some(i) => bail!("--genotypes has {} twice", names[i]),
        None => Ok(names),
    }
}

/// Returns the parameters of a genotype's network for colour images of ten classes, without operations that have no effect.
fn size(genotype: &Genotype, train: &TrainConfig) -> Result<f64> {
    let network = NetworkConfig {
        channels: train.channels,
        layers: train.layers,
        classes: 10,
        in_channels: 3,
        height: 32,
        width: 32,
        skeleton: Skeleton::Cifar,
    };
    Ok(cost(&assemble(&genotype.live(), &network)?).params as f64)
}

/// Returns the indices of the first two equal genotypes.
fn duplicates(all: &[(&String, Genotype)]) -> Option<(usize, usize)> {
    (1..all.len()).find_map(|j| (0..j).find(|&i| all[i].1 == all[j].1).map(|i| (i, j)))
}

/// Turns a name into a folder name: other characters than letters, digits and `._-` become `-`.
fn folder(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}

pub(super) fn compare(
    genotypes: &[String],
    same_size: bool,
    options: &RunOptions,
    seeds: u64,
    json: bool,
) -> Result<bool> {
    let config = resolve(options, None, Vec::new())?;
    let space = config.search.space()?;
    let reference = match genotypes.first().filter(|_| same_size) {
        Some(first) if random_count(first)?.is_none() => Some(read_genotype(first, space)?),
        Some(_) => bail!("--same-size needs a genotype of that size before random ones"),
        None => None,
    };
    let expected = reference.as_ref().map(|genotype| size(genotype, &config.train)).transpose()?;
    let names = names(genotypes, &|name| {
        let (Some(expected), Some(reference)) = (expected, &reference) else { return Ok(true) };
        let genotype = read_genotype(name, space)?;
        let near = (size(&genotype, &config.train)? - expected).abs() <= SAME_SIZE * expected;
        Ok(near && genotype.class() != reference.class())
    })?;
    // All genotypes are read before the first one is trained.
    let all = names.iter().map(|name| Ok((name, read_genotype(name, space)?))).collect::<Result<Vec<_>>>()?;
    if let Some((i, j)) = duplicates(&all) {
        bail!(
            "--genotypes: {} and {} are the same architecture. help: remove one of them",
            all[i].0,
            all[j].0
        );
    }
    let first = config.seed;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut device = open_device(options)?;
    let (mut rows, mut all_images_read) = (Vec::new(), true);
    for (name, genotype) in all {
        let (mut accuracies, mut last) = (Vec::new(), None);
        for seed in first..first.saturating_add(seeds) {
            let out = options.out.join(folder(name)).join(format!("seed-{seed}"));
            let config = resolve(options, None, vec![format!("seed={seed}")])?;
            // The same command resumes an interrupted comparison.
            let (what, start, genotype) =
                (&format!("{name}, seed {seed}"), &InitialWeights::Random, &genotype);
            let job = Job { what, genotype, start, out: &out, config: &config, resume: true };
            let (trained, all_read) = job.run(options, device.as_deref_mut())?;
            all_images_read &= all_read;
            accuracies.push(trained.scores.top1);
            last = Some(trained.model);
        }
        let Some(model) = last else { continue };
        let Cost { params, macs } = cost(&model.graph);
        let latency_ms = 1e3 * pool.install(|| latency(&model))?;
        let spread = Spread::of(&accuracies);
        let first: Option<&ComparedRow> = rows.first();
        let difference = first.and_then(|first| Difference::paired(&accuracies, &first.test_accuracy));
        rows.push(ComparedRow {
            name: name.clone(),
            params,
            macs,
            latency_ms,
            test_accuracy: accuracies,
            spread,
            difference,
        });
        write(&options.out, &rows)?;
    }
    rows.extend(random(&rows));
    write(&options.out, &rows)?;
    match json {
        true => writeln!(stdout(), "{}", serde_json::to_string(&rows)?)?,
        false => {
            table(&rows)?;
            let step = NextStep::Compare { runs: options.out.clone() };
            writeln!(stdout(), "next: {}", command_line(&step))?;
        }
    }
    Ok(all_images_read)
}

fn write(out: &Path, rows: &[ComparedRow]) -> Result<()> {
    Ok(file::write(&out.join("compare.json"), serde_json::to_string_pretty(rows)?.as_bytes())?)
}

/// Returns a summary of the random genotypes of each space that has two or more: the baseline for a search.
fn random(rows: &[ComparedRow]) -> Vec<ComparedRow> {
    let mut spaces: Vec<&str> = rows.iter().filter_map(random_of).collect();
    spaces.sort_unstable();
    spaces.dedup();
    spaces.into_iter().filter_map(|space| mean(space, rows)).collect()
}

/// Returns `random` or `random:SPACE` for the row of a random genotype.
fn random_of(row: &ComparedRow) -> Option<&str> {
    row.name.rsplit_once(':').map(|(space, _)| space).filter(|_| row.name.starts_with("random:"))
}

fn mean(space: &str, rows: &[ComparedRow]) -> Option<ComparedRow> {
    let all: Vec<&ComparedRow> = rows.iter().filter(|row| random_of(row) == Some(space)).collect();
    let count = all.len() as u64;
    let mean = |of: fn(&ComparedRow) -> u64| all.iter().map(|row| of(row)).sum::<u64>() / count.max(1);
    let test_accuracy: Vec<f64> = all.iter().flat_map(|row| row.test_accuracy.clone()).collect();
    let means: Vec<f64> = all.iter().map(|row| row.spread.mean).collect();
    let first = rows.first().filter(|first| !all.iter().any(|row| row.name == first.name));
    (count > 1).then(|| ComparedRow {
        name: format!("{space}, all {count}"),
        params: mean(|row| row.params),
        macs: mean(|row| row.macs),
        latency_ms: all.iter().map(|row| row.latency_ms).sum::<f64>() / count as f64,
        spread: Spread::of(&test_accuracy),
        difference: first.and_then(|first| Difference::independent(&means, &first.test_accuracy)),
        test_accuracy,
    })
}

fn table(rows: &[ComparedRow]) -> Result<()> {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(8);
    let columns = ["error", "runs", "difference", "p", "differs", "parameters", "MACs per image", "ms"];
    let [error, runs, difference, p, differs, params, macs, ms] = columns;
    writeln!(
        stdout(),
        "{:width$}  {:>8}  {error:>5}  {runs:>4}  {difference:>14}  {p:>5}  {differs:>7}  {params:>10}  {macs:>14}  {ms:>8}",
        "genotype",
        "accuracy",
    )?;
    let none = || "-".to_string();
    for ComparedRow { name, params, macs, latency_ms, spread, difference, .. } in rows {
        let (mean, count) = (100.0 * spread.mean, spread.count);
        let error = spread.error().map_or_else(none, |error| format!("{:.2}", 100.0 * error));
        let p = difference.map_or_else(none, |difference| format!("{:.3}", difference.p));
        let differs = difference.map_or("-", |found| if found.is_significant() { "yes" } else { "no" });
        let difference = difference.map_or_else(none, |Difference { mean, error, .. }| {
            format!("{:+.2} \u{b1} {:.2}", 100.0 * mean, 100.0 * error)
        });
        writeln!(
            stdout(),
            "{name:width$}  {mean:>6.2} %  {error:>5}  {count:>4}  {difference:>14}  {p:>5}  {differs:>7}  {params:>10}  {macs:>14}  {latency_ms:>8.2}"
        )?;
    }
    if let Some(first) = rows.first() {
        writeln!(
            stdout(),
            "error: standard error of the mean; difference: to {}, paired over the seeds; differs: p of a t-test below {SIGNIFICANT}",
            first.name
        )?;
    }
    writeln!(stdout(), "ms: latency of one image on one thread, with milenas kernels")?;
    if rows.iter().any(|row| row.spread.count == 1) {
        writeln!(stdout(), "-: one training only; --seeds 2 or more reports errors and differences")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<String>> {
        names(&text.split(',').map(String::from).collect::<Vec<_>>(), &|_| Ok(true))
    }

    #[test]
    fn random_names_are_expanded() {
        assert_eq!(parse("DARTS_V2,random:2").unwrap(), ["DARTS_V2", "random:1", "random:2"]);
        assert_eq!(parse("random:darts-s3:2").unwrap(), ["random:darts-s3:1", "random:darts-s3:2"]);
        for (text, expected) in [
            ("random:x", "random:8"),
            ("random:0", "1 to 1000"),
            ("A,B,A", "has A twice"),
            ("random:2,random:3", "random:1 twice"),
        ] {
            let message = format!("{:#}", parse(text).unwrap_err());
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(folder("runs/a b.json"), "runs-a-b.json");
        let even = |name: &str| Ok(name.ends_with(['0', '2', '4', '6', '8']));
        assert_eq!(names(&["A".into(), "random:2".into()], &even).unwrap(), ["A", "random:2", "random:4"]);
        let message = names(&["random:1".into()], &|_| Ok(false)).unwrap_err().to_string();
        assert!(message.contains("0 of 50000"), "{message}");
    }

    #[test]
    fn equal_architectures_with_two_names_are_found() {
        let [a, b] = ["DARTS_V1", "DARTS_V2"].map(|name| Genotype::named(name).unwrap());
        let names = ["x", "y", "z"].map(String::from);
        let all = |genotypes: [&Genotype; 3]| {
            duplicates(&names.iter().zip(genotypes.map(Clone::clone)).collect::<Vec<_>>())
        };
        assert_eq!((all([&a, &b, &a]), all([&b, &a, &a])), (Some((0, 2)), Some((1, 2))));
        assert_eq!(duplicates(&[(&names[0], a), (&names[1], b)]), None);
    }

    #[test]
    fn random_rows_are_summarised() {
        let row = |name: &str, accuracy: f64| ComparedRow {
            name: name.into(),
            params: 10,
            macs: 20,
            latency_ms: 1.0,
            test_accuracy: vec![accuracy],
            spread: Spread::of(&[accuracy]),
            difference: None,
        };
        let rows = [row("DARTS_V2", 0.9), row("random:1", 0.5), row("random:2", 0.7)];
        let all = &random(&rows)[0];
        assert_eq!((all.name.as_str(), all.spread.count), ("random, all 2", 2));
        assert!(
            (all.spread.mean - 0.6).abs() < 1e-12 && (all.spread.deviation - 0.02f64.sqrt()).abs() < 1e-12
        );
        assert!(random(&rows[..2]).is_empty());
        let rows = ["random:1", "random:2", "random:darts-s2:1", "random:darts-s2:2", "random:darts-s3:1"];
        let found = random(&rows.map(|name| row(name, 0.5)));
        let names: Vec<&str> = found.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["random, all 2", "random:darts-s2, all 2"]);
    }
}
