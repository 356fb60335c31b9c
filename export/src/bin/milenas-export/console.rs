//! Text to the terminal: results that cannot be written are a failure, notes are not.

use std::fmt::Display;
use std::io::{Result, Write, stderr, stdout};

/// Writes to standard output.
///
/// # Errors
/// Those of the system; a closed pipe is one of them.
pub fn print(text: impl Display) -> Result<()> {
    write!(stdout(), "{text}")
}

/// Writes a line to standard error, as far as it can be written.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
