//! Commands of milenas-search: each reads its inputs, calls the library, and prints the results.

mod analyze;
mod compare;
mod eval;
mod score;
mod search;
mod train;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use milenas_models::images::Source;
use milenas_models::input::Limits;
use milenas_models::kernels::cuda::Device;
use milenas_models::space::{self, Space};
use milenas_models::{Genotype, Rng, file};

use crate::cli::{BenchCommand, Cli, Command, DataCommand, RunOptions};
use crate::command_line::command_line;
use crate::progress::EpochProgress;
use milenas_search::bench::{self, StepBench, TrainBench};
use milenas_search::config::Config;
use milenas_search::fetch;
use milenas_search::report;
use milenas_search::run::{Data, GENOTYPE};

/// Largest text file that is read, in bytes: a configuration or a genotype.
const MAX_TEXT: u64 = 1 << 20;

/// Preset used without `--preset`.
const PRESET: &str = "smoke";

/// Runs the parsed command. Returns whether all images could be read.
pub fn execute(cli: Cli) -> Result<bool> {
    match cli.command {
        Command::Run { options, search } => search::run(&options, &search),
        Command::Train { start, options, resume, seeds } => train::train(&start, &options, resume, seeds),
        Command::Compare { genotypes, same_size, options, seeds, json } => {
            compare::compare(&genotypes, same_size, &options, seeds, json)
        }
        Command::Eval(options) => eval::eval(&options),
        Command::Score(options) => score::score(&options),
        Command::Analyze(options) => analyze::analyze(&options).map(|()| true),
        Command::Report { runs, out } => report(&runs, out).map(|()| true),
        Command::Bench(command) => bench(&command).map(|()| true),
        Command::Data(DataCommand::Info { source, json }) => info(&source, json),
        Command::Data(DataCommand::Fetch { name: _, out }) => fetch_cifar10(&out).map(|()| true),
    }
}

fn text(path: &Path) -> Result<String> {
    let bytes = file::read(path, MAX_TEXT)?;
    String::from_utf8(bytes).with_context(|| format!("{}: not text", path.display()))
}

/// Opens the device of a run, and prints its name; `None` for the CPU.
fn open_device(options: &RunOptions) -> Result<Option<Box<dyn Device>>> {
    let device = options.place.open()?;
    if let Some(device) = &device {
        EpochProgress::new("device").line(&format!("computing on {}", device.name()));
    }
    Ok(device)
}

/// Resolves the configuration: a preset, a file and single keys. The keys in `more` come last. The file `saved`
/// replaces the preset if neither a preset nor a file is given.
fn resolve(options: &RunOptions, saved: Option<&Path>, more: Vec<String>) -> Result<Config> {
    let saved = saved.filter(|path| options.preset.is_none() && path.exists());
    let file = options
        .config
        .as_deref()
        .or(saved)
        .map(|path| text(path).map(|text| (path.display().to_string(), text)));
    let file = file.transpose()?;
    let mut sets = options.set.clone();
    sets.extend(options.seed.map(|seed| format!("seed={seed}")));
    sets.extend(more);
    let preset = options.preset.as_deref().unwrap_or(PRESET);
    Ok(Config::resolve(preset, file.as_ref().map(|(p, t)| (p.as_str(), t.as_str())), &sets)?)
}

/// Checks that `out` holds a run to resume, so that a mistyped folder does not start a new run silently. `file`
/// is the file that such a run writes first.
fn find_run(out: &Path, file: &str) -> Result<()> {
    if out.join(file).exists() {
        return Ok(());
    }
    bail!(
        "--resume: {} holds no run, {file} is missing. help: correct --out, or omit --resume to start a new run there",
        out.display()
    )
}

/// Reads the images of a source by `load`, and prints notes, counts and sizes.
fn read_data(
    source: &Source,
    config: &Config,
    progress: &EpochProgress,
    load: fn(&Source, &Config) -> milenas_search::Result<Data>,
) -> Result<Data> {
    progress.line(&format!("reading {source}"));
    let data = load(source, config)?;
    data.notes.iter().for_each(|note| progress.line(&format!("note: {note}")));
    let contract = &data.train.contract;
    progress.line(&format!(
        "{} training and {} test images of {} classes, {}x{}x{}",
        data.train.len(),
        data.test.len(),
        data.classes.len(),
        contract.channels,
        contract.height,
        contract.width
    ));
    Ok(data)
}

/// Reads a genotype from a file, a published name, a text, or `random:SEED`, which samples from `space`.
fn read_genotype(name: &str, space: &'static dyn Space) -> Result<Genotype> {
    if let Some(rest) = name.strip_prefix("random:") {
        let (space, seed) = match rest.rsplit_once(':') {
            Some((named, seed)) => (space::named(named)?, seed),
            None => (space, rest),
        };
        let expected = || format!("{name}: expected random:SEED or random:SPACE:SEED, e.g. random:darts:1");
        return Ok(space.sample(&mut Rng::new(seed.parse().with_context(expected)?, "genotype"))?);
    }
    if name.starts_with('|') || name.starts_with("Genotype(") {
        return Ok(Genotype::parse(name, "the genotype")?);
    }
    let path = Path::new(name);
    if path.exists() {
        return Ok(Genotype::parse(&text(path)?, name)?);
    }
    let looks_like_path = name.contains(['/', '.']);
    if looks_like_path {
        bail!("{name}: no such file. help: `milenas-search run` writes a genotype to OUT/{GENOTYPE}");
    }
    Ok(Genotype::named(name)?)
}

fn report(runs: &[PathBuf], out: Option<PathBuf>) -> Result<()> {
    let all = report::runs(runs);
    let page = report::page_of(&all, command_line)?;
    let out = out.unwrap_or_else(|| match runs {
        [run] => run.join(report::REPORT),
        _ => PathBuf::from(report::REPORT),
    });
    let files =
        runs.iter().chain(&all).flat_map(|run| run.read_dir()).flatten().flatten().map(|entry| entry.path());
    let files: Vec<PathBuf> = files.filter(|path| !path.ends_with(report::REPORT)).collect();
    let files: Vec<_> = files.iter().map(|path| ("a file of a run", path.as_path())).collect();
    file::check_outputs(&[("--out", &out)], &files)?;
    file::write(&out, page.as_bytes())?;
    writeln!(stdout(), "written to {}", out.display())?;
    Ok(())
}

fn info(source: &str, json: bool) -> Result<bool> {
    let summary = Source::parse(source)?.open(0)?.summary(&Limits::default());
    if json {
        writeln!(stdout(), "{}", serde_json::to_string(&summary)?)?;
        return Ok(summary.bad.is_empty());
    }
    writeln!(
        stdout(),
        "{source}: {} training and {} test images, {} classes",
        summary.train,
        summary.test,
        summary.classes.len()
    )?;
    for class in &summary.classes {
        writeln!(stdout(), "  {}: {} training, {} test", class.name, class.train, class.test)?;
    }
    writeln!(
        stdout(),
        "sizes of {} training images, {}:",
        summary.looked_at,
        if summary.gray { "gray" } else { "colour" }
    )?;
    for size in summary.sizes.iter().take(10) {
        writeln!(stdout(), "  {}x{}: {}", size.width, size.height, size.count)?;
    }
    for note in &summary.notes {
        writeln!(stdout(), "note: {note}")?;
    }
    for bad in &summary.bad {
        writeln!(stdout(), "unreadable: {bad}")?;
    }
    Ok(summary.bad.is_empty())
}

fn fetch_cifar10(out: &Path) -> Result<()> {
    let folder = fetch::cifar10(out)?;
    writeln!(stdout(), "CIFAR-10 is complete and verified in {}", folder.display())?;
    writeln!(stdout(), "next: milenas-search run --data cifar10:{} --out runs/cifar10", folder.display())?;
    Ok(())
}

fn bench(command: &BenchCommand) -> Result<()> {
    let (BenchCommand::Step { size, .. } | BenchCommand::Train { size, .. }) = command;
    let [channels, layers, batch, steps] =
        [size.channels, size.layers, size.batch, size.steps].map(|n| n as usize);
    let sets = match command {
        BenchCommand::Step { two_pass, strategy, rule, .. } => {
            let order = two_pass.then(|| "search.order=two-pass".to_string());
            let strategy = strategy.as_ref().map(|name| format!("search.strategy={name}"));
            let channels = format!("search.channels={channels}");
            rule.sets.iter().cloned().chain(strategy).chain(order).chain([channels]).collect()
        }
        BenchCommand::Train { .. } => Vec::new(),
    };
    let config = Config::resolve("paper", None, &sets)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(size.threads.unwrap_or(0) as usize).build()?;
    let report = match command {
        BenchCommand::Step { place, .. } => {
            let what = StepBench { channels, layers, batch, steps };
            pool.install(|| bench::step(&what, &config.search, *place))?
        }
        BenchCommand::Train { genotype, side, place, .. } => {
            let genotype = read_genotype(genotype, &space::DARTS)?;
            let what = TrainBench { genotype, channels, layers, side: *side as usize, batch, steps };
            pool.install(|| bench::train(&what, &config.train, *place))?
        }
    };
    if size.json {
        writeln!(stdout(), "{}", serde_json::to_string(&report)?)?;
        return Ok(());
    }
    writeln!(
        stdout(),
        "{}: {:.3} s a step, {:.1} images/s, {} GFLOP/s, {} threads, peak {} MiB",
        report.device,
        report.step_seconds,
        report.images_per_second,
        report.gflops.map_or("?".into(), |x| format!("{x:.0}")),
        report.threads,
        report.peak_mib.map_or("?".into(), |m| format!("{m:.0}"))
    )?;
    let parts = [
        ("data", Some(report.data)),
        ("forward", report.forward),
        ("backward", report.backward),
        ("optimiser", report.optimiser),
    ];
    for (name, s) in parts.iter().filter_map(|(name, s)| Some((name, (*s)?))) {
        writeln!(stdout(), "{:9.2} ms  {name}", 1e3 * s)?;
    }
    for (name, s) in &report.phases {
        writeln!(stdout(), "{:9.2} ms    {name}", 1e3 * s)?;
    }
    Ok(())
}
