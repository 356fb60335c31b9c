//! `milenas-search run`: searches an architecture.

use std::io::{Write, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use milenas_models::Genotype;
use milenas_models::images::Source;
use milenas_models::metrics::Scores;

use super::{find_run, open_device, read_data, resolve};
use crate::cli::{RunOptions, SearchOptions};
use crate::command_line::command_line;
use crate::progress::EpochProgress;
use milenas_search::config::Config;
use milenas_search::engine::MaybeDevice;
use milenas_search::next::NextStep;
use milenas_search::run::{
    CONFIG, DRAWS, Data, GENOTYPE, HISTORY, SearchResult, open_population, open_search, run_population,
    run_search,
};
use milenas_search::score::Score;
use milenas_search::strategy::black_box::{By, Evaluated, Strategy};
use milenas_search::strategy::{COLLAPSE, EpochRecord, StopReason};
use milenas_search::supernet::{DeviceSpec, cuda};

/// Interval between the lines that report the number of scored architectures.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Message for a search that used up its time budget.
const OUT_OF_TIME: &str =
    "ended early: the time budget is used up. Resume with --resume and a larger --time-budget";

pub(super) fn run(options: &RunOptions, search: &SearchOptions) -> Result<bool> {
    if search.resume {
        find_run(&options.out, CONFIG)?;
    }
    let saved = options.out.join(CONFIG);
    let config = resolve(options, search.resume.then_some(&saved), search.settings.sets.clone())?;
    config.check_used(&options.set)?;
    config.check_used(&search.settings.sets)?;
    let source = Source::parse(&options.data)?;
    let strategy = config.search.black_box();
    match strategy {
        _ if options.place == DeviceSpec::Cpu => {}
        None => cuda::supports(config.search.space()?, config.search.partial_channels)?,
        Some(strategy) if strategy.trains() => {}
        Some(_) => bail!(
            "--device {}: --strategy {} scores on the CPU and trains nothing. help: omit --device",
            options.place,
            config.search.strategy
        ),
    }
    if let Some(strategy) = strategy {
        strategy.check(config.search.space()?)?;
    }
    let mut device = open_device(options)?;
    let mut progress = EpochProgress::new("search");
    if config.search.layers < 3 {
        progress.line(&format!(
            "warning: `search.layers` is {}, so {}: the network has no normal cell, and none is searched. help: use 3 \
             layers or more",
            config.search.layers,
            if config.search.layers == 1 { "the only cell is a reduction cell" } else { "both cells are reduction cells" }
        ));
    }
    let data = read_data(&source, &config, &progress, Data::load)?;
    if let Some(strategy) = strategy {
        search_black_box(strategy, &data, &config, options, device.as_deref_mut(), search.resume)?;
        return Ok(data.all_read);
    }
    let mut run = open_search(&options.out, &config, &data, options.place, search.resume)?;
    run.folder.word_steps(command_line);
    if search.resume {
        let (epochs, steps) = run.done();
        progress.line(&format!("resuming after {epochs} epochs and {steps} steps"));
    }
    let lines = EpochProgress::new("search");
    let (mut collapsed, mut recalls) = (false, None);
    let found = run_search(&data, run, device, &mut progress, &mut |record| {
        lines.line(&line(record));
        recalls = Some(Scores::new(&record.ranked, &data.classes).recalls());
        if record.skips >= COLLAPSE && !std::mem::replace(&mut collapsed, true) {
            lines.line(&format!("warning: {}", collapse(record.skips, &options.out)));
        }
    })?;
    progress.finish();
    if let Some(recalls) = recalls {
        writeln!(stdout(), "validation {recalls}")?;
    }
    print_summary(&found, options)?;
    Ok(data.all_read)
}

/// Runs a search that evaluates whole architectures by scores and short trainings.
fn search_black_box(
    strategy: &dyn Strategy,
    data: &Data,
    config: &Config,
    options: &RunOptions,
    device: MaybeDevice<'_>,
    resume: bool,
) -> Result<()> {
    let mut run = open_population(&options.out, config, data, options.place, resume)?;
    run.folder.word_steps(command_line);
    let (mut progress, lines) = (EpochProgress::new("search"), EpochProgress::new("search"));
    if resume {
        lines.line(&format!("resuming after {} evaluations", run.done()));
    }
    let total = |by| strategy.evaluations(by, &config.search.population);
    let mut last_line = Instant::now();
    let mut report = |by, number, evaluated: &Evaluated| match by {
        By::Fitness => {
            let Evaluated { genotype, value, run } = evaluated;
            let place = match run {
                Some(run) => format!("rung {}, training {number}, {} steps", run.rung, run.steps),
                None => format!("{number} of {}", total(by)),
            };
            lines.line(&format!("{place}: {:.2} % {genotype}", 100.0 * value));
        }
        By::Score if last_line.elapsed() > LINE_INTERVAL => {
            last_line = Instant::now();
            lines.line(&format!("{number} of {} scored", total(by)));
        }
        By::Score => {}
    };
    let outcome = run_population(data, run, device, &mut progress, &mut report)?;
    progress.finish();
    if outcome.late {
        writeln!(stdout(), "{OUT_OF_TIME}")?;
    }
    let score = strategy.score().map_or("score", Score::name);
    let (what, table) = match outcome.by {
        By::Score if strategy.trains() => (score, DRAWS),
        By::Score => (score, HISTORY),
        By::Fitness => ("validation accuracy", HISTORY),
    };
    let table = options.out.join(table);
    writeln!(stdout(), "{what} {:.4}; all evaluations are in {}", outcome.chosen.value, table.display())?;
    found(&outcome.chosen.genotype, options)
}

/// Prints the genotype and the next command.
fn found(genotype: &Genotype, options: &RunOptions) -> Result<()> {
    writeln!(stdout(), "{genotype}\nwritten to {}", options.out.join(GENOTYPE).display())?;
    let step = NextStep::Train { search: options.out.clone(), data: Some(options.data.clone()) };
    writeln!(stdout(), "next: {}", command_line(&step))?;
    Ok(())
}

fn line(r: &EpochRecord) -> String {
    format!(
        "epoch {}: training loss {:.3} accuracy {:.1} %, validation accuracy {:.1} %, entropy {}, \
         convolutions {} {}, {} parameters, {:.1} s",
        r.epoch + 1,
        r.train_loss,
        100.0 * r.train_accuracy,
        100.0 * r.valid_accuracy,
        r.entropy.iter().map(|entropy| format!("{entropy:.2}")).collect::<Vec<_>>().join(" "),
        r.convolutions[0],
        r.convolutions[1],
        r.params,
        r.seconds
    )
}

fn collapse(skips: usize, out: &Path) -> String {
    format!(
        "the derived normal cell has {skips} skip connections: differentiable search can collapse this way \
         (DARTS+ stops at 2, P-DARTS keeps 2). help: if later epochs do not recover, train a larger genotype of {}, stop earlier with \
         --stop-at-size or fewer search.epochs, or lower search.alphas.lr",
        out.join("genotypes").display()
    )
}

fn print_summary(found: &SearchResult, options: &RunOptions) -> Result<()> {
    let out = &options.out;
    match found.ended {
        StopReason::Epochs => {}
        StopReason::Size => writeln!(stdout(), "ended early: the derived cells have the expected size")?,
        StopReason::Time => writeln!(stdout(), "{OUT_OF_TIME}")?,
    }
    writeln!(stdout(), "best genotype of every size; compare accuracies only within a size:")?;
    writeln!(
        stdout(),
        "  {:7} {:>5} {:>10} {:>12} {:>14}",
        "size",
        "epoch",
        "validation",
        "parameters",
        "MACs per image"
    )?;
    for (index, row) in found.table.iter().enumerate() {
        writeln!(
            stdout(),
            "  {:7} {:5} {:8.2} % {:12} {:14}  {}{}",
            format!("n{} r{}", row.n, row.r),
            row.epoch + 1,
            100.0 * row.valid_accuracy,
            row.params,
            row.macs,
            out.join("genotypes").join(&row.file).display(),
            if found.chosen == Some(index) { "  <- chosen" } else { "" }
        )?;
    }
    let skips = found.genotype.skips();
    if skips >= COLLAPSE {
        writeln!(stdout(), "warning: {}", collapse(skips, out))?;
    }
    self::found(&found.genotype, options)
}
