//! Images in a tar. Its members are listed on opening and read from the file later.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Component, Path};
use std::sync::Arc;

use super::Dataset;
use super::archive::{self, Member, MemberKind};
use super::escape::path_name;
use super::layout::{Listing, SourceFile};
use super::sample::ByteSource;
use super::skip::{SkipKind, skipped_file, skipped_name};
use crate::{Error, Result};

pub(super) fn open(path: &Path, seed: u64) -> Result<Dataset> {
    if !archive::is_tar(path)? {
        return Err(Error::malformed(path_name(path), "not a tar, not a folder, and no .csv file"));
    }
    let mut listing = Listing::new(path_name(path));
    add(&mut listing, path, &[])?;
    listing.into_dataset(seed)
}

/// Adds the members of the tar at `path` to a listing, below the folder `prefix`.
pub(super) fn add(listing: &mut Listing, path: &Path, prefix: &[String]) -> Result<()> {
    let mut members = Members { listing, file: path.into(), prefix, leftovers: HashSet::new() };
    archive::members(path, &mut |member| members.add(member))
}

/// Lists the members of a tar of `length` bytes; `path` is its name.
#[cfg(test)]
pub(super) fn list<R: std::io::Read + std::io::Seek>(reader: R, length: u64, path: &Path) -> Result<Listing> {
    let mut listing = Listing::new(path_name(path));
    let mut members =
        Members { listing: &mut listing, file: path.into(), prefix: &[], leftovers: HashSet::new() };
    archive::walk(reader, length, path, &mut |member| members.add(member))?;
    Ok(listing)
}

struct Members<'a> {
    listing: &'a mut Listing,
    file: Arc<Path>,
    prefix: &'a [String],
    /// Folders and files that are skipped by name; each counts once.
    leftovers: HashSet<Vec<String>>,
}

impl Members<'_> {
    fn add(&mut self, member: Member) -> Result<ControlFlow<()>> {
        let Member { name, kind, offset, length } = member;
        let expected = |place: &str| {
            Error::malformed(place, format!("member `{name}`: expected a path inside the archive"))
        };
        let parts = components(&name).ok_or_else(|| expected(&self.listing.place))?;
        let leftover = parts.iter().position(|part| skipped_name(part).is_some());
        if let Some(at) = leftover {
            let skipped = skipped_name(&parts[at]).unwrap_or(SkipKind::Hidden);
            if self.leftovers.insert(parts[..=at].to_vec()) {
                self.listing.skipped.add(skipped);
            }
            return Ok(ControlFlow::Continue(()));
        }
        if parts.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let parts = [self.prefix, &parts].concat();
        match kind {
            MemberKind::Folder => self.listing.folders.push(parts),
            MemberKind::File => {
                let other = skipped_file(&name);
                let bytes = ByteSource::Range { file: self.file.clone(), offset, length, name };
                self.listing.add(SourceFile { parts, bytes, size: length }, other);
            }
            MemberKind::Unreadable | MemberKind::Special => self.listing.skipped.add(SkipKind::Special),
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Splits a path: `./a//b` is `a`, `b`. Returns `None` for `/a` and `a/../b`.
fn components(name: &str) -> Option<Vec<String>> {
    let parts = Path::new(name).components().filter(|part| *part != Component::CurDir);
    parts
        .map(|part| matches!(part, Component::Normal(_)).then(|| part.as_os_str().to_string_lossy().into()))
        .collect()
}
