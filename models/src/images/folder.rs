//! Images in folders on disk.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::Dataset;
use super::archive;
use super::escape::path_name;
use super::layout::{Listing, SourceFile};
use super::sample::ByteSource;
use super::skip::{SkipKind, Skipped};
use super::tarball;
use super::walk::{WalkEntry, walk};
use crate::{Error, Result};

/// Opens the folder `root` as a data set.
///
/// # Errors
/// [`Error::Malformed`] for a folder that cannot be listed, a damaged shard, and an unsupported layout.
pub(super) fn open(root: &Path, seed: u64) -> Result<Dataset> {
    let mut listing = Listing::new(path_name(root));
    let mut skipped = Skipped::default();
    let mut failed = None;
    let _ = walk(root, &mut skipped, &mut |path, parts, found| {
        let parts = parts.to_vec();
        let file = |parts| {
            // A link to nothing is reported when it is read.
            let size = fs::metadata(path).map_or(0, |found| found.len());
            SourceFile { parts, bytes: ByteSource::File(path.to_path_buf()), size }
        };
        match found {
            WalkEntry::Folder => listing.folders.push(parts),
            WalkEntry::File => listing.add(file(parts), None),
            WalkEntry::Other(kind) => listing.add(file(parts), Some(kind)),
            WalkEntry::Unusable(reason) => {
                failed = Some(Error::malformed(path_name(path), reason));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if let Some(error) = failed {
        return Err(error);
    }
    listing.skipped = skipped;
    shards(&mut listing)?;
    listing.into_dataset(seed)
}

/// Reads tars like folders, if there are no other images. Beside images they are counted as archives.
fn shards(listing: &mut Listing) -> Result<()> {
    let is_tar =
        |file: &SourceFile| file.parts.last().is_some_and(|name| name.to_lowercase().ends_with(".tar"));
    let (tars, images): (Vec<SourceFile>, Vec<SourceFile>) =
        std::mem::take(&mut listing.files).into_iter().partition(is_tar);
    if !images.is_empty() {
        listing.files = images;
        listing.others.extend(tars.into_iter().map(|tar| (SkipKind::Archive, tar)));
        return Ok(());
    }
    for SourceFile { mut parts, bytes, .. } in tars {
        let ByteSource::File(path) = bytes else { continue };
        if !archive::is_tar(&path)? {
            return Err(Error::malformed(
                path_name(&path),
                "its name ends in .tar, its content is not a tar archive",
            ));
        }
        if let Some(name) = parts.last_mut() {
            name.truncate(name.len() - ".tar".len());
        }
        listing.folders.push(parts.clone());
        tarball::add(listing, &path, &parts)?;
    }
    Ok(())
}
