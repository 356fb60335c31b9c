//! `milenas-search train`.

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Result, bail};
use milenas_models::images::Source;
use milenas_models::{Genotype, cost, file};

use super::{cpu_only, read_data, read_genotype, resolve};
use crate::cli::{RunOptions, StartOptions};
use crate::config::Config;
use crate::progress::Progress;
use crate::run::{CONFIG, GENOTYPE, Spread, Start, Supernet, Trained, WEIGHTS, open_train, run_train};

/// What several seeds have in common, with the first of them.
const SEEDS: &str = "seeds.toml";

pub(super) fn train(start: &StartOptions, options: &RunOptions, resume: bool, seeds: u64) -> Result<()> {
    let supernet = start.from_supernet.as_deref().map(Supernet::load).transpose()?;
    let genotype = match (&start.genotype, &start.from_supernet) {
        (Some(name), _) => read_genotype(name)?,
        (None, Some(run)) => read_genotype(&run.join(GENOTYPE).display().to_string())?,
        (None, None) => bail!("--genotype is missing"),
    };
    cpu_only(options, "a training")?;
    let mut options = options.clone();
    if let Some(supernet) = &supernet {
        let search = &supernet.config.search;
        let inherited = [("channels", search.channels), ("layers", search.layers)];
        let sets = inherited.map(|(key, n)| format!("train.{key}={n}"));
        options.set.splice(0..0, sets);
    }
    let start = supernet.map_or(Start::Random, |supernet| Start::Supernet(Box::new(supernet)));
    if seeds == 1 {
        let saved = options.out.join(CONFIG);
        let config = resolve(&options, resume.then_some(&saved), Vec::new())?;
        let trained = one("train", &genotype, &start, &options, &options.out, &config, resume)?;
        return tell(&trained, &options.out.join(WEIGHTS));
    }
    // What all seeds have in common, so that those to come have it too when the rest goes on.
    let saved = options.out.join(SEEDS);
    if !resume && saved.exists() {
        bail!(
            "{} is there. Help: --resume goes on with those trainings, or choose another --out",
            saved.display()
        );
    }
    let base = resolve(&options, Some(&saved), Vec::new())?;
    if !saved.exists() {
        std::fs::create_dir_all(&options.out)?;
        file::write(&saved, base.to_toml()?.as_bytes())?;
    }
    let first = base.seed;
    let mut accuracies = Vec::new();
    for seed in first..first.saturating_add(seeds) {
        let out = options.out.join(format!("seed-{seed}"));
        let config = Config { seed, ..base.clone() };
        let trained = one(&format!("seed {seed}"), &genotype, &start, &options, &out, &config, resume)?;
        writeln!(stdout(), "seed {seed}: test accuracy {:.2} %", 100.0 * trained.scores.top1)?;
        accuracies.push(trained.scores.top1);
    }
    let spread = Spread::of(&accuracies);
    let path = options.out.join("seeds.json");
    let json = serde_json::json!({ "seed": first, "test_accuracy": accuracies, "spread": spread });
    file::write(&path, serde_json::to_string_pretty(&json)?.as_bytes())?;
    writeln!(
        stdout(),
        "test accuracy {:.2} % +- {:.2} (mean and standard deviation of {} trainings)\nwritten to {}",
        100.0 * spread.mean,
        100.0 * spread.deviation,
        spread.count,
        path.display()
    )?;
    Ok(())
}

/// One training, in a folder of its own.
pub(super) fn one(
    what: &str,
    genotype: &Genotype,
    start: &Start,
    options: &RunOptions,
    out: &Path,
    config: &Config,
    resume: bool,
) -> Result<Trained> {
    let source = Source::parse(&options.data)?;
    let mut progress = Progress::new("train");
    let data = read_data(&source, config, &progress)?;
    let run = open_train(out, config, &data, genotype, start, resume)?;
    let (epochs, steps) = run.done();
    if (epochs, steps) != (0, 0) {
        progress.line(&format!("{what}: going on after {epochs} epochs and {steps} steps"));
    }
    let lines = Progress::new("train");
    let mut first = true;
    let trained = run_train(&source, &data, run, &mut progress, &mut |inherited, r| {
        if let (true, Some(accuracy)) = (std::mem::take(&mut first), inherited) {
            lines.line(&format!("{what}: inherited weights had test accuracy {:.2} %", 100.0 * accuracy));
        }
        lines.line(&format!(
            "{what}, epoch {}: training loss {:.3} accuracy {:.1} %, test accuracy {:.2} %, {:.1} s",
            r.epoch + 1,
            r.train_loss,
            100.0 * r.train_accuracy,
            100.0 * r.test_accuracy,
            r.seconds
        ));
    })?;
    progress.finish();
    Ok(trained)
}

fn tell(trained: &Trained, path: &Path) -> Result<()> {
    let cost = cost(&trained.model.graph);
    writeln!(
        stdout(),
        "test accuracy {:.2} %, {} parameters, {} multiply-accumulates per image",
        100.0 * trained.scores.top1,
        cost.params,
        cost.macs
    )?;
    writeln!(stdout(), "written to {}", path.display())?;
    writeln!(
        stdout(),
        "next: milenas-export {} -o {}",
        path.display(),
        path.with_file_name("model.onnx").display()
    )?;
    Ok(())
}
