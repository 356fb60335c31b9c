//! Reading with a limit, and writing whole or not at all.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use crate::{Error, Result};

/// The bytes of a file of at most `limit`.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    let found = bytes.len() as u64;
    if found > limit {
        return Err(Error::Limit {
            place: path.display().to_string(),
            what: "the size in bytes",
            found,
            limit,
        });
    }
    Ok(bytes)
}

/// Writes to a temporary name beside `path`, syncs, and renames: readers see the old file or the new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// [`write()`] of what `fill` writes piece by piece.
///
/// # Errors
/// Those of `fill`, and of the file itself.
pub fn write_with<T, E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = File::create(&temporary).map_err(Error::io(path))?;
        let filled = fill(&mut file)?;
        file.sync_all().and_then(|()| std::fs::rename(&temporary, path)).map_err(Error::io(path))?;
        Ok(filled)
    })();
    written.inspect_err(|_| {
        // The error that matters is the one being reported.
        let _ = std::fs::remove_file(&temporary);
    })
}
