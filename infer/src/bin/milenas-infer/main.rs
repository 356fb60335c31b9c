//! Entry point of milenas-infer: parses the command line, runs the command and reports errors.

mod cli;
mod commands;
mod console;
mod progress;

use std::process::ExitCode;

use clap::Parser;
use console::{SOME_UNREADABLE, note};
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
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SOME_UNREADABLE),
        // The reader of the results closed the pipe, e.g. `head`.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("error: {}{}", format_chain(error.as_ref()), help(&error)));
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

/// Returns the next step after an error, for errors whose remedy is a flag of this program.
fn help(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref() {
        Some(milenas_infer::Error::Image { .. }) => {
            ". help: --on-error record keeps the reason in the results and continues"
        }
        _ => "",
    }
}
