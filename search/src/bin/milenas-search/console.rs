//! Text to the terminal: notes, and the exit status.

use std::fmt::Display;
use std::io::{Write, stderr};

/// Exit status when some images could not be read and everything else is done.
pub const SOME_UNREADABLE: u8 = 2;

/// Writes a line to standard error, as far as it can be written.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
