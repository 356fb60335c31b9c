//! milenas-search: parse, run, and say what went wrong.

mod cli;
mod commands;
mod progress;

use std::process::ExitCode;

use clap::Parser;
// The binary's modules name the library as they would inside it.
use milenas_search::{bench, config, fetch, run, strategy};

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    milenas_search::memory::keep_freed();
    match commands::execute(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
