//! milenas-search: parse, run, and say what went wrong.

mod cli;
mod commands;
mod progress;

use std::io;
use std::process::ExitCode;

use clap::Parser;
// The binary's modules name the library as they would inside it.
use milenas_search::{bench, config, data, engine, fetch, next, report, run, score, strategy, supernet};

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    milenas_search::memory::keep_freed();
    match commands::execute(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has what it wanted.
        Err(error)
            if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
