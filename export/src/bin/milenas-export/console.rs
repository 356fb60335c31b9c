//! Text to the terminal: results that cannot be written are a failure, notes are not.

use std::fmt::Display;
use std::io::{Result, Write, stderr, stdout};

use milenas_models::error::with_settings;

/// Writes to standard output.
///
/// # Errors
/// The system's error, e.g. for a closed pipe.
pub fn print(text: impl Display) -> Result<()> {
    write!(stdout(), "{text}")
}

/// Writes a line to standard error, as far as it can be written, with settings as flags.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{}", with_settings(&text.to_string(), |name| format!("--{name}")));
}
