//! Terminal output: failing to write a result is an error, failing to write a note is not.

use std::fmt::Display;
use std::io::{Result, Write, stderr, stdout};

use milenas_models::error::with_settings;

/// Writes `text` to standard output.
///
/// # Errors
/// Returns the I/O error of the system, e.g. for a closed pipe.
pub fn print(text: impl Display) -> Result<()> {
    write!(stdout(), "{text}")
}

/// Writes a line to standard error and ignores I/O errors. Names of settings are printed as flags.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{}", with_settings(&text.to_string(), |name| format!("--{name}")));
}
