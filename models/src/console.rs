//! What a program says: results that cannot be written are a failure, notes are not; and how it ends.

use std::fmt::Display;
use std::io::{Result, Write, stderr, stdout};

/// The exit status of what is done, but for images that could not be read.
pub const SOME_UNREADABLE: u8 = 2;

/// To standard output.
///
/// # Errors
/// Those of the system, a reader that has left among them.
pub fn print(text: impl Display) -> Result<()> {
    write!(stdout(), "{text}")
}

/// A line to standard error; where nobody hears it, nothing is lost but the line.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
