//! Iteration over a folder and all folders below it, sorted by name. Files are recognised by name, without reading
//! them.
//!
//! Links to folders are followed, since data sets are often made of them. A link to a folder that is already being
//! read would form a cycle and is skipped. Folders that link to each other would give a number of paths that is
//! exponential in the number of links. So a folder that is reached by a link inside of a linked folder is read only a
//! limited number of times.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::escape::path_name;
use super::skip::{SkipKind, Skipped, skipped_file, skipped_name};

/// Number of times that a folder is read through links inside of links.
const NESTED: usize = 16;

/// An entry below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkEntry {
    /// A folder, before its content.
    Folder,
    /// A file that may be an image, or a link to nothing.
    File,
    /// A file that is not an image, by its name.
    Other(SkipKind),
    /// A folder that cannot be listed, with the reason.
    Unusable(String),
}

/// Callback with a path, its components below the root as text, and its kind; may stop the iteration.
pub type Visit<'a> = &'a mut dyn FnMut(&Path, &[String], WalkEntry) -> ControlFlow<()>;

/// Calls `visit` for all entries below `root`, sorted by name in each folder. Files of operating systems, hidden
/// names, special files and links in a cycle are counted in `skipped` and not visited.
pub fn walk(root: &Path, skipped: &mut Skipped, visit: Visit) -> ControlFlow<()> {
    let mut walker =
        Walker { visit, skipped, parts: Vec::new(), stack: Vec::new(), nested: HashMap::new(), links: 0 };
    walker.folder(root)
}

/// Kind of a listed entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    Folder { link: bool },
    File,
    Special,
}

/// Identity of a folder, equal for all paths to it.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = std::path::PathBuf;

struct Walker<'a, 'b> {
    visit: Visit<'a>,
    skipped: &'b mut Skipped,
    parts: Vec<String>,
    /// Folders that enclose the current one.
    stack: Vec<Identity>,
    /// Number of times that each folder was read through links inside of links.
    nested: HashMap<Identity, usize>,
    /// Number of links in the current path.
    links: usize,
}

impl Walker<'_, '_> {
    fn folder(&mut self, folder: &Path) -> ControlFlow<()> {
        let read = fs::metadata(folder).and_then(|found| Ok((identity(folder, &found)?, self.read(folder)?)));
        let (identity, entries) = match read {
            Ok(read) => read,
            Err(error) => return (self.visit)(folder, &self.parts, WalkEntry::Unusable(error.to_string())),
        };
        self.stack.push(identity);
        for (name, text, kind) in entries {
            let path = folder.join(name);
            self.parts.push(text);
            self.entry(&path, kind)?;
            self.parts.pop();
        }
        self.stack.pop();
        ControlFlow::Continue(())
    }

    fn entry(&mut self, path: &Path, kind: EntryKind) -> ControlFlow<()> {
        match kind {
            EntryKind::Special => self.skipped.add(SkipKind::Special),
            EntryKind::File => {
                let other = self.parts.last().and_then(|name| skipped_file(name));
                (self.visit)(path, &self.parts, other.map_or(WalkEntry::File, WalkEntry::Other))?;
            }
            EntryKind::Folder { link } => {
                if link && self.leads_back(path) {
                    self.skipped.add(SkipKind::Ring);
                    return ControlFlow::Continue(());
                }
                (self.visit)(path, &self.parts, WalkEntry::Folder)?;
                self.links += usize::from(link);
                self.folder(path)?;
                self.links -= usize::from(link);
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether a link leads to an enclosing folder, or to one that was read too often through links inside of links.
    fn leads_back(&mut self, link: &Path) -> bool {
        // A folder that cannot be accessed is reported when it is listed.
        let Ok(identity) = fs::metadata(link).and_then(|found| identity(link, &found)) else { return false };
        if self.stack.contains(&identity) {
            return true;
        }
        if self.links == 0 {
            return false;
        }
        let reads = self.nested.entry(identity).or_default();
        *reads += 1;
        *reads > NESTED
    }

    /// Returns the entries that are not skipped by name, sorted.
    fn read(&mut self, folder: &Path) -> io::Result<Vec<(OsString, String, EntryKind)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let text = path_name(Path::new(&name));
            match skipped_name(&text) {
                Some(kind) => self.skipped.add(kind),
                None => entries.push((name, text, kind(&entry)?)),
            }
        }
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }
}

fn kind(entry: &DirEntry) -> io::Result<EntryKind> {
    let found = entry.file_type()?;
    let link = found.is_symlink();
    let (is_dir, is_file) = match link {
        false => (found.is_dir(), found.is_file()),
        // A link to nothing is a file that cannot be read, and is reported as such.
        true => fs::metadata(entry.path()).map_or((false, true), |to| (to.is_dir(), to.is_file())),
    };
    Ok(match (is_dir, is_file) {
        (true, _) => EntryKind::Folder { link },
        (false, true) => EntryKind::File,
        (false, false) => EntryKind::Special,
    })
}

#[cfg(unix)]
fn identity(_: &Path, found: &Metadata) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    Ok((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &Metadata) -> io::Result<Identity> {
    fs::canonicalize(path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn files(root: &Path) -> (Vec<String>, Skipped) {
        let (mut files, mut skipped) = (Vec::new(), Skipped::default());
        let _ = walk(root, &mut skipped, &mut |_, parts, found| {
            if found == WalkEntry::File {
                files.push(parts.join("/"));
            }
            ControlFlow::Continue(())
        });
        (files, skipped)
    }

    #[test]
    fn a_ring_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (name, other) in [("a", "b"), ("b", "a")] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("0.png"), "").unwrap();
            for link in ["see1", "see2"] {
                symlink(format!("../{other}"), root.join(name).join(link)).unwrap();
            }
        }
        let (files, skipped) = files(root);
        let expected = ["a/0.png", "a/see1/0.png", "a/see2/0.png", "b/0.png", "b/see1/0.png", "b/see2/0.png"];
        assert_eq!(files, expected);
        assert_eq!(skipped.to_string(), "8 links in a ring");
    }

    #[test]
    fn crossing_links_give_a_bounded_number_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        for name in names {
            let at = folder.path().join(name);
            fs::create_dir(&at).unwrap();
            fs::write(at.join("0.png"), "").unwrap();
            names
                .iter()
                .filter(|other| **other != name)
                .for_each(|other| symlink(format!("../{other}"), at.join(other)).unwrap());
        }
        let (files, _) = files(folder.path());
        assert!(files.len() <= names.len() * (1 + names.len() + NESTED), "{}", files.len());
        assert!(names.iter().all(|name| files.contains(&format!("{name}/0.png"))));
    }

    #[test]
    fn several_links_to_one_folder_are_all_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("pool/deep")).unwrap();
        fs::write(at("pool/deep/0.png"), "").unwrap();
        fs::create_dir(at("set")).unwrap();
        for class in 0..40 {
            fs::create_dir(at("set").join(class.to_string())).unwrap();
            symlink(at("pool"), at("set").join(class.to_string()).join("more")).unwrap();
        }
        symlink(at("nothing"), at("set/gone.png")).unwrap();
        assert_eq!(files(&at("set")).0.len(), 41);
    }
}
