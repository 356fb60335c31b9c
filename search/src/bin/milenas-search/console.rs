//! Notes on standard error, and the exit status for unreadable images.

use std::fmt::Display;
use std::io::{Write, stderr};

/// Exit status when some images could not be read and everything else succeeded.
pub const SOME_UNREADABLE: u8 = 2;

/// Writes a line to standard error, and ignores a failure to write it.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
