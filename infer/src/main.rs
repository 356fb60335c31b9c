//! milenas-infer: parse, run, and say what went wrong.

mod cli;
mod commands;
mod progress;

use std::process::ExitCode;

use clap::Parser;

/// Done, but some inputs failed.
const SOME_FAILED: u8 = 2;

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match commands::execute(cli::Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SOME_FAILED),
        // Whoever read the results has seen enough, e.g. `head`.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |e: &milenas_infer::Error| match e {
        milenas_infer::Error::Output(io) => io.kind() == std::io::ErrorKind::BrokenPipe,
        _ => false,
    };
    error.downcast_ref().is_some_and(closed)
}
