//! `milenas-search train`: trains one architecture, with one seed or several.

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Result, bail};
use milenas_models::images::Source;
use milenas_models::{Genotype, cost, file};

use super::{find_run, open_device, read_data, read_genotype, resolve};
use crate::cli::{RunOptions, StartOptions};
use crate::command_line::command_line;
use crate::progress::EpochProgress;
use milenas_search::config::Config;
use milenas_search::engine::MaybeDevice;
use milenas_search::next::NextStep;
use milenas_search::run::{
    CONFIG, Data, GENOTYPE, InitialWeights, NewFiles, SEEDS, Spread, Trained, TrainedSupernet, WEIGHTS,
    open_train, run_train,
};

pub(super) fn train(start: &StartOptions, options: &RunOptions, resume: bool, seeds: u64) -> Result<bool> {
    if resume {
        find_run(&options.out, if seeds == 1 { CONFIG } else { SEEDS })?;
    }
    let supernet = start.from_supernet.as_deref().map(TrainedSupernet::load).transpose()?;
    let space = match &supernet {
        Some(supernet) => supernet.config.search.space()?,
        None => {
            let saved = options.out.join(CONFIG);
            resolve(options, resume.then_some(&saved), Vec::new())?.search.space()?
        }
    };
    let genotype = match (&start.genotype, &start.from_supernet) {
        (Some(name), _) => read_genotype(name, space)?,
        (None, Some(run)) => read_genotype(&run.join(GENOTYPE).display().to_string(), space)?,
        (None, None) => bail!("--genotype is missing"),
    };
    if let Some((kind, _)) = genotype.cells().find(|(_, cell)| cell.is_dead()) {
        EpochProgress::new("train").line(&format!(
            "warning: the {kind} cell passes no signal, as every path to its output contains `none`. The network cannot \
             distinguish images. help: choose another genotype"
        ));
    }
    let mut device = open_device(options)?;
    let mut options = options.clone();
    let mut saved = resume.then(|| options.out.join(if seeds == 1 { CONFIG } else { SEEDS }));
    let resumes = resume && options.preset.is_none() && options.config.is_none();
    if let (Some(supernet), false) = (&supernet, resumes) {
        let Config { search, data, .. } = &supernet.config;
        let inherited = [
            format!("train.channels={}", search.channels),
            format!("train.layers={}", search.layers),
            format!("data.size={}", data.size),
            format!("data.resize={}", data.resize),
            format!("data.split={}", data.split),
        ];
        options.set.splice(0..0, inherited);
        saved = Some(supernet.run().join(CONFIG));
    }
    let start =
        supernet.map_or(InitialWeights::Random, |supernet| InitialWeights::Supernet(Box::new(supernet)));
    if seeds == 1 {
        let config = resolve(&options, saved.as_deref(), Vec::new())?;
        let job = Job {
            what: "train",
            genotype: &genotype,
            start: &start,
            out: &options.out,
            config: &config,
            resume,
        };
        let (trained, whole) = job.run(&options, device.as_deref_mut())?;
        print_summary(&trained, &options.out)?;
        return Ok(whole);
    }
    // The common configuration is saved, so that a resumed run uses it for the remaining seeds.
    let common = options.out.join(SEEDS);
    if !resume && common.exists() {
        bail!(
            "{} exists already. help: resume those trainings with --resume, or choose another --out",
            common.display()
        );
    }
    let base = resolve(&options, saved.as_deref(), Vec::new())?;
    let mut new = NewFiles::default();
    if !common.exists() {
        new.add(&common);
        std::fs::create_dir_all(&options.out)?;
        file::write(&common, base.to_toml()?.as_bytes())?;
    }
    let first = base.seed;
    let (mut accuracies, mut whole) = (Vec::new(), true);
    for seed in first..first.saturating_add(seeds) {
        let out = options.out.join(format!("seed-{seed}"));
        let config = Config { seed, ..base.clone() };
        let what = &format!("seed {seed}");
        let job = Job { what, genotype: &genotype, start: &start, out: &out, config: &config, resume };
        let result = job.run(&options, device.as_deref_mut());
        // A training that failed before its first checkpoint has removed its folder.
        if out.join(CONFIG).exists() {
            new.keep();
        }
        let (trained, all_read) = result?;
        whole &= all_read;
        writeln!(stdout(), "seed {seed}: test accuracy {:.2} %", 100.0 * trained.scores.top1)?;
        accuracies.push(trained.scores.top1);
    }
    let spread = Spread::of(&accuracies);
    let path = options.out.join("seeds.json");
    let json = serde_json::json!({ "seed": first, "test_accuracy": accuracies, "spread": spread });
    file::write(&path, serde_json::to_string_pretty(&json)?.as_bytes())?;
    writeln!(
        stdout(),
        "test accuracy {:.2} % +- {:.2} (mean and standard deviation of {} trainings)\nwritten to {}\nnext: {}",
        100.0 * spread.mean,
        100.0 * spread.deviation,
        spread.count,
        path.display(),
        command_line(&NextStep::Compare { runs: options.out.clone() })
    )?;
    Ok(whole)
}

/// Settings of one training in its own folder.
pub(super) struct Job<'a> {
    /// Prefix of the printed lines.
    pub(super) what: &'a str,
    pub(super) genotype: &'a Genotype,
    pub(super) start: &'a InitialWeights,
    pub(super) out: &'a Path,
    pub(super) config: &'a Config,
    pub(super) resume: bool,
}

impl Job<'_> {
    /// Trains the network. Also returns whether all images could be read.
    pub(super) fn run(&self, options: &RunOptions, device: MaybeDevice<'_>) -> Result<(Trained, bool)> {
        let Job { what, genotype, start, out, config, resume } = *self;
        let source = Source::parse(&options.data)?;
        let mut progress = EpochProgress::new("train");
        let data = read_data(&source, config, &progress, Data::load_to_train)?;
        if let InitialWeights::Supernet(supernet) = start {
            let (then, now) = (&supernet.images, data.train.fingerprint());
            if *then != now {
                progress.line(&format!(
                    "warning: the search used other training images than this run ({then} then, {now} now): its test images may have been \
                     trained on. help: give the --data of the search, and omit data.size, data.resize and data.split"
                ));
            }
        }
        let mut run = open_train(out, config, &data, genotype, start, options.place, resume)?;
        run.folder.word_steps(command_line);
        let (epochs, steps) = run.done();
        if (epochs, steps) != (0, 0) {
            progress.line(&format!("{what}: resuming after {epochs} epochs and {steps} steps"));
        }
        let lines = EpochProgress::new("train");
        let mut first = true;
        let trained = run_train(&data, run, device, &mut progress, &mut |inherited, r| {
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
        Ok((trained, data.all_read))
    }
}

fn print_summary(trained: &Trained, out: &Path) -> Result<()> {
    let cost = cost(&trained.model.graph);
    writeln!(
        stdout(),
        "test accuracy {:.2} %, {} parameters, {} multiply-accumulates per image",
        100.0 * trained.scores.top1,
        cost.params,
        cost.macs
    )?;
    writeln!(stdout(), "{}", trained.scores.recalls())?;
    writeln!(stdout(), "written to {}", out.join(WEIGHTS).display())?;
    let step = NextStep::Export { training: out.to_path_buf() };
    writeln!(stdout(), "next: {}", command_line(&step))?;
    Ok(())
}
