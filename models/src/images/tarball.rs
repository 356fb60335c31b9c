//! Images in a tar: the members are listed at opening and read from their place in the file later.

use std::ops::ControlFlow;
use std::path::{Component, Path};
use std::sync::Arc;

use super::Dataset;
use super::archive::{self, Member, MemberKind};
use super::layout::{Listing, is_hidden};
use super::sample::Bytes;
use crate::{Error, Result};

pub(super) fn open(path: &Path, seed: u64) -> Result<Dataset> {
    if !archive::is_tar(path)? {
        return Err(Error::malformed(path.display().to_string(), "not a tar, and not a folder"));
    }
    let (mut listing, file) = (empty(path), path.into());
    archive::members(path, &mut |member| add(&mut listing, &file, member))?;
    unwrap_root(&mut listing);
    listing.into_dataset(seed)
}

fn empty(path: &Path) -> Listing {
    Listing { place: path.display().to_string(), files: Vec::new(), folders: Vec::new() }
}

/// The members of a tar of `length` bytes that lies at `path`. A single folder around everything is left off.
#[cfg(test)]
pub(super) fn list<R: std::io::Read + std::io::Seek>(reader: R, length: u64, path: &Path) -> Result<Listing> {
    let (mut listing, file) = (empty(path), path.into());
    archive::walk(reader, length, path, &mut |member| add(&mut listing, &file, member))?;
    unwrap_root(&mut listing);
    Ok(listing)
}

fn add(listing: &mut Listing, file: &Arc<Path>, member: Member) -> Result<ControlFlow<()>> {
    let Member { name, kind, offset, length } = member;
    let refused = |problem: &str| Error::malformed(&*listing.place, format!("member `{name}`{problem}"));
    let parts = components(&name).ok_or_else(|| refused(": expected a path inside the archive"))?;
    if parts.is_empty() || parts.iter().any(|part| is_hidden(part)) {
        return Ok(ControlFlow::Continue(()));
    }
    match kind {
        MemberKind::Folder => listing.folders.push(parts),
        MemberKind::File => {
            listing.files.push((parts, Bytes::Range { file: file.clone(), offset, length, name }));
        }
        MemberKind::Other => {
            return Err(refused(" is a link or a special file; pack the files themselves"));
        }
    }
    Ok(ControlFlow::Continue(()))
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
