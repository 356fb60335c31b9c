//! Entry point of milenas-search: parses the command line, runs the command, reports errors.

mod cli;
mod command_line;
mod commands;
mod console;
mod progress;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use console::{SOME_UNREADABLE, note};
use milenas_models::error::format_chain;

fn main() -> ExitCode {
    milenas_search::memory::keep_freed();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // A request for help or version succeeds even if the reader has closed the pipe.
            let _ = message.print();
            return if message.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match commands::execute(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SOME_UNREADABLE),
        // A closed pipe is no error: the reader needs no more output.
        Err(error)
            if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            note(format_args!("error: {}", format_chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}
