//! What the program says beside its results: results that cannot be written are a failure, notes are not.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

use milenas_infer::{Error, Result};

/// To standard output.
pub fn print(text: impl Display) -> Result<()> {
    write!(stdout(), "{text}").map_err(Error::Output)
}

/// A line to standard error; where nobody hears it, nothing is lost but the line.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
