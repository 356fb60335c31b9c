//! Terminal output: failing to write a result is an error, failing to write a note is not.

use std::fmt::Display;
use std::io::{Result, Write, stderr, stdout};

use milenas_models::error::with_settings;

/// Exit status if some images could not be read and everything else succeeded.
pub const SOME_UNREADABLE: u8 = 2;

/// Writes `text` to standard output.
///
/// # Errors
/// Returns the I/O error of the system, e.g. for a closed pipe.
pub fn print(text: impl Display) -> Result<()> {
    write!(stdout(), "{text}")
}

/// Writes a line to standard error and ignores I/O errors. Names of settings are printed as flags.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{}", flags(&text.to_string()));
}

/// Spells the settings that a message of the library names as flags.
pub fn flags(message: &str) -> String {
    with_settings(message, |name| format!("--{name}"))
}
