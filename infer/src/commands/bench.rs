//! Measure how fast a model runs on this machine, without image files.

use std::time::Instant;

use anyhow::Result;
use milenas_models::Rng;
use milenas_models::memory::peak_mib;
use serde::Serialize;

use crate::cli::Bench;

/// What `--json` prints. Times are medians over the runs.
#[derive(Serialize)]
struct Report {
    runtime: &'static str,
    precision: &'static str,
    threads: usize,
    batch: usize,
    images_per_second: f64,
    /// Seconds from a batch to its answers.
    batch_seconds: f64,
    peak_mib: Option<f64>,
}

pub(super) fn execute(asked: &Bench) -> Result<bool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(asked.threads).build()?;
    let (batch, runs) = (asked.batch as usize, asked.runs as usize);
    let report = pool.install(|| -> Result<Report> {
        let mut options = super::options(&asked.runtime, None)?;
        options.runtime.threads = asked.threads;
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
        Ok(Report { runtime, precision, threads, batch, images_per_second, batch_seconds, peak_mib })
    })?;
    if asked.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "{}, {}: {:.1} images/s in batches of {}, {:.2} ms a batch, {} threads, peak {} MiB",
            report.runtime,
            report.precision,
            report.images_per_second,
            report.batch,
            1e3 * report.batch_seconds,
            report.threads,
            report.peak_mib.map_or("?".into(), |m| format!("{m:.0}"))
        );
    }
    Ok(true)
}
