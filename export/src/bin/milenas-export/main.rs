//! Entry point of milenas-export: parses the command line, runs the command and reports errors.

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
            // A closed stream does not change the exit status.
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
