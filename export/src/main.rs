//! milenas-export: parse, run, and say what went wrong.

mod calibration;
mod cli;
mod commands;
mod draw;
mod latency;
mod report;
mod sidecars;
mod untrained;

use std::process::ExitCode;

use clap::Parser;

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match commands::execute(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
