//! Members of a tar, listed from their headers. Their bytes are read from the file on request.

mod links;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use links::Links;

use super::escape::escaped;
use crate::{Error, Result};

/// An entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Path inside the archive, as stored; bytes that are not UTF-8 are escaped.
    pub name: String,
    /// Kind of the entry.
    pub kind: MemberKind,
    /// Offset of its content in the archive, in bytes.
    pub offset: u64,
    /// Length of its content in bytes.
    pub length: u64,
}

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A folder.
    Folder,
    /// A file with contiguous content, or a link to one.
    File,
    /// A sparse file, or a link whose target is not a file of the archive.
    Unreadable,
    /// A device or a pipe.
    Special,
}

/// Returns whether a file is a tar, by its content.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read. [`Error::Malformed`] for another kind of archive, with the next step.
pub fn is_tar(path: &Path) -> Result<bool> {
    let mut magic = Vec::new();
    File::open(path).map_err(Error::io(path))?.take(262).read_to_end(&mut magic).map_err(Error::io(path))?;
    let problem = match magic.as_slice() {
        [0x1f, 0x8b, ..] | [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "a compressed archive; unpack the compression first, e.g. with gunzip"
        }
        [b'P', b'K', ..] => "a zip archive; unpack it, or pack it as a tar",
        m => return Ok(m.get(257..262) == Some(b"ustar")),
    };
    Err(Error::malformed(path.display().to_string(), problem))
}

/// Calls `each` for every member of the tar at `path`; `each` may stop the iteration. A link to a file of the archive
/// has the content of that file. Symbolic links to later members come last.
///
/// # Errors
/// The errors of `each`, [`Error::Io`] if the file cannot be opened, [`Error::Malformed`] for a damaged archive, and
/// [`Error::Truncated`] for an incomplete one.
pub fn members(path: &Path, each: &mut dyn FnMut(Member) -> Result<ControlFlow<()>>) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    walk(BufReader::new(file), length, path, each)
}

/// Calls `each` for every member of a tar of `length` bytes. `path` is its name in messages.
pub(super) fn walk<R: Read + Seek>(
    mut reader: R,
    length: u64,
    path: &Path,
    each: &mut dyn FnMut(Member) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let place = path.display().to_string();
    let damaged = |e: std::io::Error| Error::malformed(&*place, format!("a damaged tar: {e}"));
    reader.seek(SeekFrom::Start(0)).map_err(damaged)?;
    let mut archive = tar::Archive::new(reader);
    let mut last = 0;
    let mut links = Links::default();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let end = offset.saturating_add(size);
        last = end.div_ceil(512).saturating_mul(512);
        let name = escaped(&entry.path_bytes());
        let kind = match entry.header().entry_type() {
            kind if kind.is_pax_global_extensions() => continue,
            kind if kind.is_dir() => MemberKind::Folder,
            kind if kind.is_file() || kind.is_contiguous() => MemberKind::File,
            kind if kind.is_hard_link() || kind.is_symlink() => {
                let target = entry.link_name_bytes().map(|bytes| escaped(&bytes)).unwrap_or_default();
                let Some(member) = links.follow(name, &target, kind.is_symlink()) else { continue };
                match each(member)? {
                    ControlFlow::Break(()) => return Ok(()),
                    ControlFlow::Continue(()) => continue,
                }
            }
            kind if kind.is_gnu_sparse() => MemberKind::Unreadable,
            _ => MemberKind::Special,
        };
        if kind == MemberKind::File && end > length {
            let problem = format!("ends at byte {end}, the archive has {length}");
            return Err(Error::Truncated { place: format!("{place}, member `{name}`"), problem });
        }
        if kind == MemberKind::File {
            links.add(&name, offset, size);
        }
        if each(Member { name, kind, offset, length: size })?.is_break() {
            return Ok(());
        }
    }
    // A tar that is cut between two members would otherwise be read as a smaller one.
    if last.saturating_add(512) > length {
        let problem = format!("{length} bytes without the end-of-archive block");
        return Err(Error::Truncated { place, problem });
    }
    for member in links.rest() {
        if each(member)?.is_break() {
            break;
        }
    }
    Ok(())
}
