//! Images in a tar: the members are listed at opening and read from their place in the file later.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path};
use std::sync::Arc;

use super::Dataset;
use super::layout::{Listing, is_hidden};
use super::sample::Bytes;
use crate::{Error, Result};

pub(super) fn open(path: &Path, seed: u64) -> Result<Dataset> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut magic = Vec::new();
    file.by_ref().take(262).read_to_end(&mut magic).map_err(Error::io(path))?;
    file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
    let problem = match magic.as_slice() {
        [0x1f, 0x8b, ..] | [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "a compressed archive; unpack the compression first, e.g. with gunzip"
        }
        [b'P', b'K', ..] => "a zip archive; unpack it, or pack it as a tar",
        m if m.get(257..262) != Some(b"ustar") => "not a tar, and not a folder",
        _ => "",
    };
    if !problem.is_empty() {
        return Err(Error::malformed(path.display().to_string(), problem));
    }
    let length = file.metadata().map_err(Error::io(path))?.len();
    list(BufReader::new(file), length, path)?.into_dataset(seed)
}

/// The members of a tar of `length` bytes that lies at `path`. A single folder around everything is left off.
pub(super) fn list<R: Read + Seek>(reader: R, length: u64, path: &Path) -> Result<Listing> {
    let place = path.display().to_string();
    let damaged = |e: std::io::Error| Error::malformed(&*place, format!("a damaged tar: {e}"));
    let file: Arc<Path> = path.into();
    let mut listing = Listing { place: place.clone(), files: Vec::new(), folders: Vec::new() };
    let mut archive = tar::Archive::new(reader);
    let mut end = 0;
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        end = entry.raw_file_position().saturating_add(entry.size()).div_ceil(512).saturating_mul(512);
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let parts = components(&name).ok_or_else(|| {
            Error::malformed(&*place, format!("member `{name}`: expected a path inside the archive"))
        })?;
        if parts.is_empty() || parts.iter().any(|part| is_hidden(part)) {
            continue;
        }
        if kind.is_dir() {
            listing.folders.push(parts);
        } else if kind.is_file() || kind.is_contiguous() {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            let end = offset.saturating_add(size);
            if end > length {
                let problem = format!("ends at byte {end}, the archive has {length}");
                return Err(Error::Truncated { place: format!("{place}, member `{name}`"), problem });
            }
            listing.files.push((parts, Bytes::Range { file: file.clone(), offset, length: size, name }));
        } else {
            let problem = format!("member `{name}` is a link or a special file; pack the files themselves");
            return Err(Error::malformed(&*place, problem));
        }
    }
    // A tar cut between two members would otherwise only be a smaller data set.
    if end.saturating_add(512) > length {
        let problem = format!("{length} bytes without the end-of-archive block");
        return Err(Error::Truncated { place, problem });
    }
    unwrap_root(&mut listing);
    Ok(listing)
}

/// `./a//b` is `a`, `b`; `/a` and `a/../b` are refused.
fn components(name: &str) -> Option<Vec<String>> {
    let parts = Path::new(name).components().filter(|part| *part != Component::CurDir);
    parts
        .map(|part| matches!(part, Component::Normal(_)).then(|| part.as_os_str().to_string_lossy().into()))
        .collect()
}

fn unwrap_root(listing: &mut Listing) {
    let mut names = listing.files.iter().map(|(parts, _)| parts).chain(&listing.folders);
    let Some(root) = names.next().map(|parts| parts[0].clone()) else { return };
    if root == "train" || !names.all(|parts| parts[0] == root) {
        return;
    }
    listing.files.iter_mut().for_each(|(parts, _)| drop(parts.remove(0)));
    listing.folders.iter_mut().for_each(|parts| drop(parts.remove(0)));
    listing.files.retain(|(parts, _)| !parts.is_empty());
    listing.folders.retain(|parts| !parts.is_empty());
}
