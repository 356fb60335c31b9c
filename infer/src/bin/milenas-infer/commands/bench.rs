//! Benchmark of a model on this machine: the network alone on random images, and with files every stage.

use std::fmt::{self, Display, Formatter};
use std::time::Instant;

use crate::console::note;
use anyhow::Result;
use milenas_infer::inputs::Inputs;
use milenas_infer::model::Classifier;
use milenas_infer::pipeline::{Times, run};
use milenas_infer::resume::FinishedRows;
use milenas_models::Rng;
use milenas_models::memory::peak_mib;
use serde::Serialize;

use super::classify::list;
use super::print;
use crate::cli::{Bench, SizeArgs};

/// JSON output of `--json`. Times are medians over the runs.
#[derive(Serialize)]
struct BenchReport {
    runtime: &'static str,
    precision: &'static str,
    threads: usize,
    batch: usize,
    images_per_second: f64,
    /// Seconds for one batch.
    batch_seconds: f64,
    peak_mib: Option<f64>,
    /// Measurements from file to answer, if files were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Files>,
}

/// Measurements from file to answer. The seconds of a stage are summed over its threads.
#[derive(Serialize)]
struct Files {
    images: u64,
    failed: u64,
    images_per_second: f64,
    stages: Vec<StageReport>,
}

#[derive(Serialize)]
struct StageReport {
    stage: &'static str,
    images: u64,
    seconds: f64,
    images_per_second: f64,
}

pub(super) fn execute(asked: &Bench) -> Result<bool> {
    let threads = asked.threads.map_or(0, |n| n as usize);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let (batch, runs) = (asked.batch as usize, asked.runs as usize);
    let report = pool.install(|| -> Result<BenchReport> {
        let options = super::options(&asked.runtime, None, threads)?;
        let model = super::load(&asked.model, &options)?;
        let mut rng = Rng::new(0, "bench");
        let images: Vec<f32> = (0..batch * model.input.len()).map(|_| rng.normal()).collect();
        model.runtime.run(&images, batch)?;
        let mut seconds = Vec::with_capacity(runs);
        for _ in 0..runs {
            let start = Instant::now();
            model.runtime.run(&images, batch)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let batch_seconds = seconds[runs / 2];
        let images_per_second = batch as f64 / batch_seconds;
        let (threads, peak_mib) = (rayon::current_num_threads(), peak_mib());
        let (runtime, precision) = (options.runtime.kind.name(), options.runtime.precision.name());
        let files = if asked.inputs.is_empty() { None } else { Some(files(asked, &model)?) };
        Ok(BenchReport {
            runtime,
            precision,
            threads,
            batch,
            images_per_second,
            batch_seconds,
            peak_mib,
            files,
        })
    })?;
    match asked.json {
        true => print(serde_json::to_string(&report)? + "\n")?,
        false => print(&report)?,
    }
    let failed = report.files.map_or(0, |files| files.failed);
    if failed > 0 {
        note(format_args!("{failed} images could not be read: `milenas-infer classify` reports the reasons"));
    }
    Ok(failed == 0)
}

impl Display for BenchReport {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        writeln!(
            f,
            "{}, {}: {:.1} images/s in batches of {}, {:.2} ms a batch, {} threads, peak {} MiB",
            self.runtime,
            self.precision,
            self.images_per_second,
            self.batch,
            1e3 * self.batch_seconds,
            self.threads,
            self.peak_mib.map_or("?".into(), |m| format!("{m:.0}"))
        )?;
        let Some(files) = &self.files else { return Ok(()) };
        writeln!(f, "from files to answers: {:.1} images/s of {}", files.images_per_second, files.images)?;
        writeln!(f, "{:8} {:>8} {:>10} {:>12}", "stage", "images", "seconds", "images/s")?;
        for StageReport { stage, images, seconds, images_per_second } in &files.stages {
            writeln!(f, "{stage:8} {images:>8} {seconds:>10.3} {images_per_second:>12.1}")?;
        }
        Ok(())
    }
}

fn files(asked: &Bench, model: &Classifier) -> Result<Files> {
    let inputs = Inputs::new(&asked.inputs, None, b'\n')?;
    let sizes = SizeArgs { batch: asked.batch, workers: asked.threads, threads: asked.threads };
    let plan = super::plan(sizes, asked.limits);
    let (times, items) = (Times::default(), list(inputs, FinishedRows::default(), None).items);
    let (mut images, mut failed, start) = (0, 0, Instant::now());
    run(model, &plan, &times, items, |batch| {
        images += batch.len() as u64;
        failed += batch.iter().filter(|one| one.answer.is_err()).count() as u64;
        Ok(())
    })?;
    let images_per_second = images as f64 / start.elapsed().as_secs_f64();
    let stages = times.stages().into_iter().map(|(stage, found)| (stage, found.total()));
    let stages = stages.filter(|(_, (images, _))| *images > 0).map(|(stage, (images, seconds))| {
        StageReport { stage, images, seconds, images_per_second: images as f64 / seconds.max(1e-9) }
    });
    Ok(Files { images, failed, images_per_second, stages: stages.collect() })
}
