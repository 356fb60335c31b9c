//! Images in folders on disk.

use std::fs;
use std::path::Path;

use super::Dataset;
use super::layout::{Listing, is_hidden};
use super::sample::Bytes;
use crate::{Error, Result};

pub(super) fn open(root: &Path, seed: u64) -> Result<Dataset> {
    let mut listing = Listing { place: root.display().to_string(), files: Vec::new(), folders: Vec::new() };
    walk(root, &mut Vec::new(), &mut listing)?;
    listing.into_dataset(seed)
}

/// Adds everything below `folder`, whose name below the root is `parts`. Links are followed, since data sets
/// are often made of them.
fn walk(folder: &Path, parts: &mut Vec<String>, listing: &mut Listing) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            return Err(Error::malformed(path.display().to_string(), "the name is not UTF-8; rename it"));
        };
        if is_hidden(&name) {
            continue;
        }
        let is_link = entry.file_type().map_err(Error::io(&path))?.is_symlink();
        parts.push(name);
        if fs::metadata(&path).map_err(Error::io(&path))?.is_dir() {
            if is_link && leads_back(&path, folder)? {
                return Err(Error::malformed(
                    path.display().to_string(),
                    "the link leads to a folder around it",
                ));
            }
            listing.folders.push(parts.clone());
            walk(&path, parts, listing)?;
        } else {
            listing.files.push((parts.clone(), Bytes::File(path)));
        }
        parts.pop();
    }
    Ok(())
}

fn leads_back(link: &Path, folder: &Path) -> Result<bool> {
    let target = fs::canonicalize(link).map_err(Error::io(link))?;
    Ok(fs::canonicalize(folder).map_err(Error::io(folder))?.starts_with(target))
}
