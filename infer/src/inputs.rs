//! The images that were asked for: files as they come, folders with all that lies below them, sorted.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use milenas_models::images::is_image_name;

use crate::{Error, Result};

/// Folders inside folders that are followed.
const MAX_DEPTH: usize = 64;

/// Lists inputs one by one; only the folders on the way are in memory.
#[derive(Debug)]
pub struct Inputs {
    /// What is left to look at, with its depth; named ones are at depth 0.
    left: VecDeque<(PathBuf, usize)>,
}

impl Inputs {
    /// # Errors
    /// A path that does not exist.
    pub fn new(paths: &[PathBuf]) -> Result<Self> {
        for path in paths {
            std::fs::metadata(path).map_err(|source| Error::Input { path: path.clone(), source })?;
        }
        Ok(Inputs { left: paths.iter().map(|path| (path.clone(), 0)).collect() })
    }

    /// Puts what lies in a folder first in line: sorted, hidden files and files that are surely no images left out.
    fn open(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let failed = |source| Error::Input { path: folder.to_path_buf(), source };
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with('.') && (path.is_dir() || is_image_name(&name)) {
                entries.push(path);
            }
        }
        entries.sort();
        entries.into_iter().rev().for_each(|path| self.left.push_front((path, depth + 1)));
        Ok(())
    }
}

impl Iterator for Inputs {
    type Item = Result<PathBuf>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((path, depth)) = self.left.pop_front() {
            if !path.is_dir() {
                return Some(Ok(path));
            }
            let opened = match depth {
                0..MAX_DEPTH => self.open(&path, depth),
                _ => Err(Error::Input {
                    path,
                    source: std::io::Error::other("folders nest too deep; is a link leading back?"),
                }),
            };
            if let Err(error) = opened {
                return Some(Err(error));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_sorted_and_files_keep_their_place() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/2.png", "b/1.jpg", "a.png", "b/notes.txt", ".hidden.png"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let inputs = Inputs::new(&[folder.path().join("b/2.png"), folder.path().to_path_buf()]).unwrap();
        let found: Vec<PathBuf> =
            inputs.map(|p| p.unwrap().strip_prefix(folder.path()).unwrap().to_path_buf()).collect();
        assert_eq!(found, ["b/2.png", "a.png", "b/1.jpg", "b/2.png"].map(PathBuf::from));
        assert!(Inputs::new(&[folder.path().join("missing")]).is_err());
    }
}
