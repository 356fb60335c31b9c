//! Files and folders that a run creates before its first checkpoint, removed if the run fails until then.

use std::fs;
use std::path::{Path, PathBuf};

/// Paths that did not exist before a run. On drop, those that exist are removed, unless the run keeps them. A
/// folder is removed only if it is empty.
#[derive(Debug, Default)]
pub struct NewFiles {
    paths: Vec<PathBuf>,
}

impl NewFiles {
    /// Adds a path and the folders above it, as far as they do not exist yet.
    pub fn add(&mut self, path: &Path) {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err())
            .collect();
        self.paths.extend(missing.into_iter().rev().map(Path::to_path_buf));
    }

    /// Keeps all files and folders.
    pub fn keep(&mut self) {
        self.paths.clear();
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            // A file that cannot be removed is left.
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_files_are_removed_and_other_files_are_not() {
        let place = tempfile::tempdir().unwrap();
        let [kept, run] = ["a", "b/run"].map(|name| place.path().join(name));
        let file = run.join("events/0");
        fs::write(&kept, "the user's").unwrap();
        let mut new = NewFiles::default();
        [&kept, &run, &file, &run.join("absent")].into_iter().for_each(|path| new.add(path));
        fs::create_dir_all(run.join("events")).unwrap();
        fs::write(&file, "new").unwrap();
        drop(new);
        assert!(kept.exists() && !place.path().join("b").exists());

        let mut new = NewFiles::default();
        new.add(&file);
        fs::create_dir_all(run.join("events")).unwrap();
        fs::write(&file, "new").unwrap();
        fs::write(run.join("of the user"), "").unwrap();
        drop(new);
        assert!(!run.join("events").exists() && run.join("of the user").exists());

        let mut new = NewFiles::default();
        new.add(&file);
        fs::create_dir_all(run.join("events")).unwrap();
        fs::write(&file, "new").unwrap();
        new.keep();
        drop(new);
        assert!(file.exists());
    }
}
