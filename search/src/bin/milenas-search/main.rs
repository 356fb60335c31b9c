//! milenas-search: parse, run, and say what went wrong.

mod cli;
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
        Err(said) => {
            // Help and version are asked for; a reader that has left wants no more of them.
            let _ = said.print();
            return if said.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match commands::execute(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SOME_UNREADABLE),
        // The reader of our output has what it wanted.
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
