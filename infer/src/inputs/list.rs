//! Lists of paths in a file or on standard input, separated by line feeds or NULs, and read as they arrive.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use milenas_models::images::Skipped;

use super::{Give, Item, RunOutputs, place};
use crate::{Error, Result};

/// Largest length of a path, in bytes.
const LONGEST: u64 = 1 << 16;

/// Source of a list of paths.
#[derive(Clone, Debug)]
pub(super) struct List {
    /// File with the paths; `-` is standard input.
    from: PathBuf,
    separator: u8,
}

impl List {
    pub(super) fn new(from: &Path, separator: u8) -> Result<Self> {
        let list = List { from: from.to_path_buf(), separator };
        if list.repeatable() {
            list.open()?;
        } else if !list.is_stdin() {
            std::fs::metadata(from).map_err(|source| Error::Input { path: from.into(), source })?;
        }
        Ok(list)
    }

    fn is_stdin(&self) -> bool {
        self.from == Path::new("-")
    }

    pub(super) fn repeatable(&self) -> bool {
        !self.is_stdin() && self.from.is_file()
    }

    fn open(&self) -> Result<Box<dyn BufRead>> {
        if self.is_stdin() {
            return Ok(Box::new(stdin().lock()));
        }
        let failed = |source| Error::Input { path: self.from.clone(), source };
        Ok(Box::new(BufReader::new(File::open(&self.from).map_err(failed)?)))
    }

    pub(super) fn walk(&self, outputs: &RunOutputs, skipped: &mut Skipped, give: Give) -> ControlFlow<()> {
        let mut reader = match self.open() {
            Ok(reader) => reader,
            Err(error) => return give(Item::unusable(&self.from, error)),
        };
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.by_ref().take(LONGEST).read_until(self.separator, &mut line) {
                Err(error) => return give(Item::unusable(&self.from, error)),
                Ok(0) => return ControlFlow::Continue(()),
                Ok(n) if n as u64 == LONGEST && line.last() != Some(&self.separator) => {
                    let reason = format!("a path of more than {LONGEST} bytes; is it a list of paths?");
                    return give(Item::unusable(&self.from, reason));
                }
                Ok(_) => {}
            }
            if line.last() == Some(&self.separator) {
                line.pop();
            }
            if self.separator == b'\n' && line.last() == Some(&b'\r') {
                line.pop();
            }
            if !line.is_empty() {
                place(&path(&line), outputs, skipped, give)?;
            }
        }
    }
}

#[cfg(unix)]
fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

#[cfg(not(unix))]
fn path(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}
