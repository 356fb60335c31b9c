//! milenas-export: parse, run, and say what went wrong.

mod cli;
mod commands;
mod console;
mod draw;
mod inspect;
mod latency;
mod report;

use std::process::ExitCode;

use clap::Parser;
use console::note;
use milenas_models::error::format_chain;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody to tell is no other failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match commands::execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("error: {}", format_chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}
