//! `milenas-search score`: training-free scores of architectures.

use std::collections::HashSet;
use std::io::{Write, stdout};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use milenas_models::images::Source;
use milenas_models::memory::peak_mib;
use milenas_models::space::{self, Space};
use milenas_models::{Genotype, Rng, file};

use super::{read_data, read_genotype, resolve};
use crate::cli::{RunOptions, ScoreOptions};
use crate::progress::EpochProgress;
use milenas_search::data::EpochOrder;
use milenas_search::run::Data;
use milenas_search::score::{Aggregate, Macs, Params, Score, Scorer, aggregate};

/// Number of draws without a new architecture after which a space counts as exhausted.
const DRAWS: usize = 10_000;

/// Scores the named and the sampled architectures, and writes a table.
pub(super) fn score(options: &ScoreOptions) -> Result<bool> {
    let (metrics, aggregates) = (options.metrics()?, options.aggregates()?);
    if let Some(out) = &options.out {
        let inputs: Vec<_> = options.genotypes.iter().map(|name| ("a genotype", Path::new(name))).collect();
        file::check_outputs(&[("--out", out)], &inputs)?;
    }
    let space = space::named(&options.space)?;
    let mut genotypes =
        options.genotypes.iter().map(|name| read_genotype(name, space)).collect::<Result<Vec<_>>>()?;
    genotypes.extend(sample(space, options.sample, options.seed)?);
    if genotypes.is_empty() {
        bail!("no architecture to score. help: name genotypes, or add --sample 100");
    }
    let run = RunOptions { seed: Some(options.seed), ..RunOptions::for_data(&options.data) };
    let config = resolve(&run, None, Vec::new())?;
    let progress = EpochProgress::new("score");
    let data = read_data(&Source::parse(&options.data)?, &config, &progress, Data::load)?;
    let mut indices: Vec<usize> = (0..data.train.len()).collect();
    Rng::new(options.seed, "score/batch").shuffle(&mut indices);
    indices.truncate(options.batch);
    let batch = EpochOrder::batch(&data.train, &indices);
    let network = data.network(options.channels, options.layers);
    let mut scorer = Scorer::new(network, batch, options.seed);
    let (start, mut last_line) = (Instant::now(), Instant::now());
    let mut rows = Vec::with_capacity(genotypes.len());
    let mut columns: Vec<&dyn Score> = vec![&Params, &Macs];
    for score in metrics.iter().chain(aggregates.iter().flat_map(Aggregate::scores)) {
        if columns.iter().all(|column| column.name() != score.name()) {
            columns.push(*score);
        }
    }
    for (i, genotype) in genotypes.iter().enumerate() {
        rows.push(scorer.score(genotype, &columns)?);
        if last_line.elapsed().as_secs() >= 5 {
            last_line = Instant::now();
            let rate = start.elapsed().as_secs_f64() / (i + 1) as f64;
            let left = rate * (genotypes.len() - i - 1) as f64;
            progress.line(&format!("{} of {}, {rate:.3} s each, {left:.0} s left", i + 1, genotypes.len()));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    progress.line(&format!(
        "{} architectures ({} different networks) on {} images in {seconds:.1} s, {:.3} s each, peak {:.0} MiB",
        rows.len(),
        genotypes.iter().map(Genotype::class).collect::<HashSet<_>>().len(),
        scorer.images(),
        seconds / rows.len() as f64,
        peak_mib().unwrap_or(f64::NAN)
    ));
    let column = |score: &dyn Score| {
        let at = columns.iter().position(|column| column.name() == score.name());
        rows.iter().filter_map(|row| row.get(at?)).copied().collect::<Vec<f64>>()
    };
    let mut sums = Vec::new();
    if metrics.len() > 1 {
        let metrics: Vec<Vec<f64>> = metrics.iter().map(|metric| column(*metric)).collect();
        sums.push(("aggregate", aggregate(&metrics)));
    }
    // A single score is a column already.
    let several = aggregates.iter().filter(|aggregate| aggregate.scores().len() > 1);
    sums.extend(several.map(|aggregate| (aggregate.name(), aggregate.values(column))));
    let text = table(&genotypes, &columns, &rows, &sums);
    match &options.out {
        Some(path) => {
            file::write(path, text.as_bytes())?;
            progress.line(&format!("written to {}", path.display()));
        }
        None => stdout().write_all(text.as_bytes())?,
    }
    Ok(data.all_read)
}

/// Samples `count` different architectures uniformly.
fn sample(space: &'static dyn Space, count: usize, seed: u64) -> Result<Vec<Genotype>> {
    let (mut rng, mut seen) = (Rng::new(seed, "score/sample"), HashSet::new());
    if let Some(all) = space.count() {
        if count > all {
            bail!("--sample {count}: {} has {all} architectures. help: lower --sample", space.name());
        }
        // Sampling would find the last ones very late, so a shuffled list of all architectures is cut instead.
        if count > all / 2 {
            let mut all: Vec<usize> = (0..all).collect();
            rng.shuffle(&mut all);
            return all[..count].iter().map(|index| Ok(space.nth(*index)?)).collect();
        }
    }
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count {
        let new = (0..DRAWS).find_map(|_| {
            let genotype = space.sample(&mut rng);
            genotype.map(|g| seen.insert(g.clone()).then_some(g)).transpose()
        });
        match new {
            Some(genotype) => drawn.push(genotype?),
            None => bail!(
                "{count} different architectures of {} requested, found only {}",
                space.name(),
                drawn.len()
            ),
        }
    }
    Ok(drawn)
}

/// Formats the scores and the aggregates as CSV, one line per architecture.
fn table(
    genotypes: &[Genotype],
    columns: &[&dyn Score],
    rows: &[Vec<f64>],
    sums: &[(&str, Vec<f64>)],
) -> String {
    let names = columns.iter().map(|metric| metric.name()).chain(sums.iter().map(|(name, _)| *name));
    let mut text = format!("architecture,{}\n", names.collect::<Vec<_>>().join(","));
    for (i, (genotype, row)) in genotypes.iter().zip(rows).enumerate() {
        let name = genotype.to_string();
        let name = if name.contains(',') { format!("\"{name}\"") } else { name };
        let values = row.iter().chain(sums.iter().map(|(_, values)| &values[i]));
        let values: Vec<String> = values.map(f64::to_string).collect();
        text += &format!("{name},{}\n", values.join(","));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_space_can_be_sampled_completely() {
        for count in [100, 8000, 15_625] {
            let drawn = sample(&space::NASBENCH201, count, 1).unwrap();
            assert!(drawn.iter().all(|genotype| space::NASBENCH201.contains(genotype)));
            assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), count);
        }
        let message = sample(&space::NASBENCH201, 15_626, 1).unwrap_err().to_string();
        assert!(message.contains("nasbench201 has 15625 architectures"), "{message}");
    }
}
