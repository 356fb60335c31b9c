//! Notes on standard error, and the exit status for unreadable images.

use std::fmt::Display;
use std::io::{Write, stderr};

use milenas_models::error::with_settings;

/// Exit status when some images could not be read and everything else succeeded.
pub const SOME_UNREADABLE: u8 = 2;

/// Writes a line to standard error, with settings as flags, and ignores a failure to write it.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{}", flags(&text.to_string()));
}

/// Spells the settings that a message of the library names as flags.
pub fn flags(message: &str) -> String {
    with_settings(message, |name| format!("--{name}"))
}
