//! All images below a folder, sorted. A million names in one folder cost one reading of it and no look at any file.

use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use milenas_models::images::{is_hidden, is_image_name};

use super::{Give, Item, archive, is_tar_name};

/// What lies in a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Tar,
    /// A link to a folder around it.
    Loop,
}

/// Hidden names, files that are surely no images, sockets and the like are left out; links are followed.
pub(super) fn walk(folder: &Path, give: Give) -> ControlFlow<()> {
    let entries = match read(folder) {
        Ok(entries) => entries,
        Err(error) => return give(Item::unusable(folder, error)),
    };
    for (name, kind) in entries {
        let path = folder.join(name);
        match kind {
            Kind::Folder => walk(&path, give)?,
            Kind::Tar => archive(&path, give)?,
            Kind::File => give(Item::file(path))?,
            Kind::Loop => give(Item::unusable(&path, "the link leads to a folder around it"))?,
        }
    }
    ControlFlow::Continue(())
}

fn read(folder: &Path) -> io::Result<Vec<(OsString, Kind)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(kind) = kind(folder, &entry)? {
            entries.push((entry.file_name(), kind));
        }
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

fn kind(folder: &Path, entry: &DirEntry) -> io::Result<Option<Kind>> {
    let name = entry.file_name();
    let text = name.to_string_lossy();
    if is_hidden(&text) {
        return Ok(None);
    }
    let found = entry.file_type()?;
    let (is_dir, is_file) = match found.is_symlink() {
        false => (found.is_dir(), found.is_file()),
        // A link to nothing is a file that cannot be read, and is reported as such.
        true => fs::metadata(entry.path()).map_or((false, true), |to| (to.is_dir(), to.is_file())),
    };
    Ok(match (is_dir, is_file) {
        (true, _) if found.is_symlink() && leads_back(entry, folder) => Some(Kind::Loop),
        (true, _) => Some(Kind::Folder),
        (false, true) if is_tar_name(&name) => Some(Kind::Tar),
        (false, true) if is_image_name(&text) => Some(Kind::File),
        (false, _) => None,
    })
}

fn leads_back(link: &DirEntry, folder: &Path) -> bool {
    let (target, folder) = (fs::canonicalize(link.path()), fs::canonicalize(folder));
    matches!((target, folder), (Ok(target), Ok(folder)) if folder.starts_with(&target))
}
