//! milenas-infer: parse, run, and say what went wrong.

mod cli;
mod commands;

use std::process::ExitCode;

use clap::Parser;

/// Done, but some inputs failed.
const SOME_FAILED: u8 = 2;

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match commands::execute(cli::Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SOME_FAILED),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
