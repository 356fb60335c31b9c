//! What the commands do: read, run, and tell.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod classify;
mod evaluate;
mod merge;

use std::thread::available_parallelism;

use anyhow::Result;
use milenas_infer::pipeline::Plan;
use milenas_models::input::Limits;

use crate::cli::{Cli, Command, Sizes};

/// Runs what was typed. Returns whether every image could be read.
pub fn execute(cli: Cli) -> Result<bool> {
    match cli.command {
        Command::Classify(asked) => classify::execute(&asked),
        Command::Evaluate(asked) => evaluate::execute(&asked),
        Command::Merge(asked) => merge::execute(&asked),
        Command::Bench(asked) => bench::execute(&asked),
    }
}

fn plan(sizes: Sizes) -> Plan {
    let cores = available_parallelism().map_or(1, usize::from);
    let workers = sizes.workers.map_or(cores, |n| n as usize);
    Plan { batch: sizes.batch as usize, workers, limits: Limits::default() }
}
