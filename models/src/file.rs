//! Reading files with a size limit, and writing files atomically, without overwriting devices.

use std::fs::{File, OpenOptions, canonicalize, metadata, remove_file, rename};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf, absolute};

use same_file::Handle;

use crate::{Error, Result};

/// Returns the content of a file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Limit`] if it is larger.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_or(0, |found| found.len());
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    let found = size.max(bytes.len() as u64);
    if found > limit {
        return Err(Error::Limit {
            place: path.display().to_string(),
            what: "the size in bytes",
            found,
            limit,
        });
    }
    Ok(bytes)
}

/// Writes `bytes` to a file with [`write_with()`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// Writes a file with `fill`, using [`replace`]. A device or a pipe, e.g. /dev/stdout, is written directly.
///
/// # Errors
/// The errors of `fill`, and [`Error::Io`] if the file cannot be written.
pub fn write_with<T, E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    match is_special(path) {
        true => fill(&mut create(path)?),
        false => replace(path, |temporary| fill(&mut File::create(temporary).map_err(Error::io(path))?)),
    }
}

/// Opens an empty file for writing piece by piece. A device or a pipe is opened for appending.
pub fn create(path: &Path) -> Result<File> {
    let special = is_special(path);
    let mut options = OpenOptions::new();
    options
        .write(true)
        .append(special)
        .create(!special)
        .truncate(!special)
        .open(path)
        .map_err(Error::io(path))
}

/// Lets `fill` write a temporary file beside `path`, syncs it, and renames it to `path`. Readers see either the old
/// or the new file, and the old one remains if `fill` fails. For a link, the target is replaced, not the link.
///
/// # Errors
/// The errors of `fill`, and [`Error::Io`] if the file cannot be written, or `path` is a device or a pipe.
pub fn replace<T, E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    if is_special(path) {
        let problem = "it is a device or a pipe, expected the name of a file";
        return Err(Error::io(path)(io::Error::new(ErrorKind::InvalidInput, problem)).into());
    }
    let target = followed(path);
    let temporary = beside(&target, &format!(".{}.tmp", std::process::id()));
    let written = fill(&temporary).and_then(|filled| {
        // Windows syncs only files that are open for writing.
        let synced = OpenOptions::new().write(true).open(&temporary).and_then(|file| file.sync_all());
        synced.and_then(|()| rename(&temporary, &target)).map_err(Error::io(path))?;
        Ok(filled)
    });
    written.inspect_err(|_| {
        // The error that matters is already being returned.
        let _ = remove_file(&temporary);
    })
}

/// Returns the target of a link, even if it does not exist, or the path itself.
fn followed(path: &Path) -> PathBuf {
    match (canonicalize(path), path.read_link()) {
        (_, Err(_)) => path.to_path_buf(),
        (Ok(target), _) => target,
        (Err(_), Ok(next)) => path.with_file_name(next),
    }
}

/// Returns the name of a file that belongs to another one: its path with an additional suffix. For a link, the suffix
/// is added to its target.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = followed(path).into_os_string();
    name.push(ending);
    name.into()
}

/// Removes a file if it exists.
pub fn remove(path: &Path) -> Result<()> {
    if path.is_file() { remove_file(path).map_err(Error::io(path)) } else { Ok(()) }
}

/// Checks that outputs can be written: their folder exists, and they are not an input or another output. Each path
/// comes with its name for the user, e.g. `-o`; inputs need not exist.
///
/// # Errors
/// [`Error::Io`] if a folder does not exist, [`Error::Value`] for an output that is a folder, an input or another
/// output.
pub fn check_outputs(outputs: &[(&str, &Path)], inputs: &[(&str, &Path)]) -> Result<()> {
    let refused = |(what, path): (&str, &Path), found: &str, expected: String| {
        Err(Error::Value { what: what.into(), found: format!("{}{found}", path.display()), expected })
    };
    let mut known: Vec<(usize, FileIdentity)> = Vec::new();
    for (i, &output) in outputs.iter().enumerate() {
        let path = output.1;
        location(path).map_err(Error::io(path))?;
        if path.is_dir() {
            return refused(output, ", a folder", "the name of a file".into());
        }
        let Some(identity) = FileIdentity::of(path) else { continue };
        if let Some((other, _)) = known.iter().find(|(_, known)| *known == identity) {
            return refused(output, "", format!("another file than {}", outputs[*other].0));
        }
        known.push((i, identity));
    }
    let any_there = known.iter().any(|(_, identity)| matches!(identity, FileIdentity::There(_)));
    for (name, path) in inputs {
        // There may be many inputs, and most outputs do not exist yet.
        if !any_there && path.exists() {
            continue;
        }
        let identity = FileIdentity::of(path);
        if let Some((output, _)) = known.iter().find(|(_, known)| Some(known) == identity.as_ref()) {
            return refused(outputs[*output], "", format!("another file than {name}"));
        }
    }
    Ok(())
}

/// Whether two paths are the same file, also through different paths or links. Devices and pipes are never the same,
/// since writing to them loses no data.
pub fn is_same(a: &Path, b: &Path) -> bool {
    FileIdentity::of(a).is_some_and(|a| Some(a) == FileIdentity::of(b))
}

/// Identity of a file.
#[derive(PartialEq)]
enum FileIdentity {
    There(Handle),
    /// A file that does not exist or cannot be opened, by its folder and name.
    Named(PathBuf),
}

impl FileIdentity {
    /// Returns the identity of a file. Devices and pipes have none, since opening a pipe would block.
    fn of(path: &Path) -> Option<Self> {
        if is_special(path) {
            return None;
        }
        let there = Handle::from_path(path).map(FileIdentity::There);
        there.or_else(|_| location(path).map(FileIdentity::Named)).ok()
    }
}

/// Returns the canonical folder of a path, with the file name. If the system cannot resolve the folder, returns the
/// absolute path.
///
/// # Errors
/// The system's error if the folder does not exist.
fn location(path: &Path) -> io::Result<PathBuf> {
    let path = absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
    match canonicalize(folder) {
        Ok(folder) => Ok(folder.join(name)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(io::Error::new(error.kind(), format!("the folder {}: {error}", folder.display())))
        }
        Err(_) => Ok(path),
    }
}

/// Whether a path cannot be replaced by a file: a device, a pipe, or the name of an open file, such as /dev/stdout.
pub fn is_special(path: &Path) -> bool {
    let opened = ["/dev", "/proc"].iter().any(|system| path.starts_with(system)) && path.is_symlink();
    opened || metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_limit_tells_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ten");
        write(&path, &[1; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap().len(), 10);
        let message = read(&path, 3).unwrap_err().to_string();
        assert!(message.contains("ten: the size in bytes is 10, the limit is 3"), "{message}");
    }

    #[test]
    fn what_fails_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |file| {
            file.write_all(b"half").unwrap();
            Err::<(), _>(Error::malformed("fill", "failed"))
        });
        assert!(failed.unwrap_err().to_string().contains("failed"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_file_has_many_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("in")).unwrap();
        assert!(is_same(&at("new"), &at("in/../new")) && !is_same(&at("new"), &at("in/new")));
        write(&at("old"), b"").unwrap();
        fs::hard_link(at("old"), at("in/linked")).unwrap();
        assert!(is_same(&at("old"), &at("in/linked")) && !is_same(&at("old"), &at("new")));

        let refused = |outputs: &[&str]| {
            let outputs: Vec<PathBuf> = outputs.iter().map(|name| at(name)).collect();
            let outputs: Vec<(&str, &Path)> = outputs.iter().map(|path| ("-o", path.as_path())).collect();
            check_outputs(&outputs, &[("SOURCE", &at("old"))]).err().map(|error| error.to_string())
        };
        assert_eq!(refused(&["new", "in/new"]), None);
        for (outputs, expected) in [
            (vec!["in/linked"], "another file than SOURCE"),
            (vec!["new", "in/../new"], "another file than -o"),
            (vec!["nowhere/new"], "nowhere: "),
            (vec!["in"], "a folder, expected the name of a file"),
        ] {
            let message = refused(&outputs).unwrap();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_written_through() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(&at("file"), b"old").unwrap();
        symlink("file", at("link")).unwrap();
        write(&at("link"), b"new").unwrap();
        assert!(at("link").is_symlink() && fs::read(at("file")).unwrap() == b"new");
        assert!(is_same(&at("link"), &at("file")));
        symlink("later", at("astray")).unwrap();
        write(&at("astray"), b"found").unwrap();
        assert!(at("astray").is_symlink() && fs::read(at("later")).unwrap() == b"found");
        assert_eq!(beside(&at("astray"), ".done"), canonicalize(at("later")).unwrap().with_extension("done"));

        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        let pipe = at("pipe");
        let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
        write(&at("pipe"), b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        let refused = replace(&at("pipe"), |_| Ok::<_, Error>(())).unwrap_err().to_string();
        assert!(refused.contains("device or a pipe"), "{refused}");
        assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
        assert!(!is_same(&at("pipe"), &at("pipe")));
    }
}
