//! Lists input images one by one. Only the entries of the open folders are in memory.
//!
//! An argument is a file, a folder (with all folders below it), a tar, or a pattern. A list names any number
//! of files, folders and tars. Folders are sorted, so that a resumed run lists the same files in the same
//! order.

mod folder;
mod list;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milenas_models::Error as Model;
use milenas_models::file;
use milenas_models::images::{
    ByteSource, MemberKind, SkipKind, Skipped, is_tar, members, path_name, skipped_file, skipped_name,
};

use crate::{Error, Result};

/// Item to classify.
#[derive(Clone, Debug)]
pub enum Item {
    /// File or archive member that is probably an image.
    Image(ByteSource),
    /// Input that cannot be listed, e.g. a folder without permission or a damaged archive.
    Unusable {
        /// Name of the input.
        name: String,
        /// Reason why the input cannot be listed.
        reason: String,
    },
}

impl Item {
    /// Returns the path, or `archive:member`. Bytes that are not UTF-8 are escaped as `\xE8`, so that
    /// different names stay different.
    pub fn name(&self) -> String {
        match self {
            Item::Image(bytes) => bytes.name(),
            Item::Unusable { name, .. } => name.clone(),
        }
    }

    fn file(path: PathBuf) -> Self {
        Item::Image(ByteSource::File(path))
    }

    fn unusable(path: &Path, reason: impl ToString) -> Self {
        Item::Unusable { name: path_name(path), reason: reason.to_string() }
    }
}

/// Callback that receives each item and may end the listing.
pub type Give<'a> = &'a mut dyn FnMut(Item) -> ControlFlow<()>;

/// Kind of input that one argument names.
#[derive(Clone, Debug)]
enum InputArgument {
    Path(PathBuf),
    Pattern(String),
    List(list::List),
}

/// Outputs of a run. They are not inputs of the run, even in a folder of inputs.
#[derive(Clone, Debug, Default)]
struct RunOutputs(Vec<PathBuf>);

impl RunOutputs {
    /// Returns whether a path is one of the outputs. Only files with an equal file name are compared.
    fn contain(&self, path: &Path) -> bool {
        self.0.iter().any(|output| output.file_name() == path.file_name() && file::is_same(output, path))
    }
}

/// Requested inputs.
#[derive(Clone, Debug)]
pub struct Inputs {
    inputs: Vec<InputArgument>,
    outputs: RunOutputs,
}

impl Inputs {
    /// Collects the arguments in their order, then the list. `-`, as an argument or as the list, is standard
    /// input. `separator` ends a path in a list: a line feed or NUL.
    ///
    /// # Errors
    /// [`Error::Nothing`] without any input. [`Error::Input`] for a path that does not exist or cannot be
    /// read. [`Error::Pattern`] for a pattern that is invalid or matches nothing. [`Error::Models`] for a
    /// compressed archive.
    pub fn new(arguments: &[PathBuf], list: Option<&Path>, separator: u8) -> Result<Self> {
        let mut inputs = Vec::new();
        for path in arguments {
            inputs.push(match std::fs::metadata(path) {
                _ if path == Path::new("-") => InputArgument::List(list::List::new(path, separator)?),
                Ok(found) => {
                    if found.is_file() {
                        is_tar(path)?;
                    }
                    InputArgument::Path(path.clone())
                }
                Err(source) => pattern(path).ok_or_else(|| Error::Input { path: path.clone(), source })??,
            });
        }
        if let Some(list) = list {
            inputs.push(InputArgument::List(list::List::new(list, separator)?));
        }
        match inputs.is_empty() {
            true => Err(Error::Nothing),
            false => Ok(Inputs { inputs, outputs: RunOutputs::default() }),
        }
    }

    /// Excludes these files from folders, archives and patterns.
    pub fn without(self, outputs: Vec<PathBuf>) -> Self {
        Inputs { outputs: RunOutputs(outputs), ..self }
    }

    /// Returns whether the inputs can be listed twice. Standard input and pipes can be read only once.
    pub fn repeatable(&self) -> bool {
        self.inputs.iter().all(|input| match input {
            InputArgument::Path(_) | InputArgument::Pattern(_) => true,
            InputArgument::List(list) => list.repeatable(),
        })
    }

    /// Passes every item to `give`, in order. Files whose names are not those of images are counted in
    /// `skipped`, unless they are named explicitly.
    pub fn walk(&self, skipped: &mut Skipped, give: Give) -> ControlFlow<()> {
        self.inputs.iter().try_for_each(|input| match input {
            InputArgument::Path(path) => place(path, &self.outputs, skipped, give),
            InputArgument::Pattern(pattern) => matches(pattern, &self.outputs, skipped, give),
            InputArgument::List(list) => list.walk(&self.outputs, skipped, give),
        })
    }
}

/// Lists a folder, a tar or a file that was named explicitly.
fn place(path: &Path, outputs: &RunOutputs, skipped: &mut Skipped, give: Give) -> ControlFlow<()> {
    if path.is_dir() {
        return folder::walk(path, outputs, skipped, give);
    }
    match path.is_file() && is_tar(path).unwrap_or(false) {
        true => archive(path, skipped, give),
        false => give(Item::file(path.to_path_buf())),
    }
}

/// Lists the images in a tar, in the order of the archive.
fn archive(path: &Path, skipped: &mut Skipped, give: Give) -> ControlFlow<()> {
    let file: Arc<Path> = path.into();
    let mut ended = ControlFlow::Continue(());
    // Folders and files that are skipped by name; each counts once.
    let mut leftovers = HashSet::new();
    let walked = members(path, &mut |member| {
        let parts: Vec<&str> =
            member.name.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
        if let Some(at) = parts.iter().position(|part| skipped_name(part).is_some()) {
            if leftovers.insert(parts[..=at].join("/")) {
                skipped.add(skipped_name(parts[at]).unwrap_or(SkipKind::Hidden));
            }
            return Ok::<_, Model>(ended);
        }
        let other = skipped_file(&member.name);
        match (member.kind, other) {
            (MemberKind::Folder, _) => {}
            (MemberKind::Special, _) => skipped.add(SkipKind::Special),
            (MemberKind::File | MemberKind::Unreadable, Some(kind)) => skipped.add(kind),
            (MemberKind::File, None) => {
                let (offset, length, name) = (member.offset, member.length, member.name);
                ended = give(Item::Image(ByteSource::Range { file: file.clone(), offset, length, name }));
            }
            // A link to a folder has no extension.
            (MemberKind::Unreadable, None) if Path::new(&member.name).extension().is_none() => {
                skipped.add(SkipKind::Special);
            }
            (MemberKind::Unreadable, None) => {
                let name = format!("{}:{}", path_name(path), member.name);
                let reason = "a link to no file of the archive, or a file with holes".into();
                ended = give(Item::Unusable { name, reason });
            }
        }
        Ok(ended)
    });
    match walked {
        Err(error) if ended.is_continue() => give(Item::unusable(path, error)),
        Ok(()) | Err(_) => ended,
    }
}

/// Parses an argument that contains pattern characters and does not exist as a path.
fn pattern(path: &Path) -> Option<Result<InputArgument>> {
    let text = path.to_str().filter(|text| text.contains(['*', '?', '[']))?;
    let refused = |problem: String| Error::Pattern { pattern: text.into(), problem };
    Some(match glob::glob(text) {
        Err(error) => Err(refused(error.to_string())),
        Ok(mut found) => match found.next() {
            None => Err(refused("matches nothing".into())),
            Some(_) => Ok(InputArgument::Pattern(text.into())),
        },
    })
}

/// Lists the matches of a pattern, sorted. Files whose names are not those of images are skipped, as in
/// folders.
fn matches(pattern: &str, outputs: &RunOutputs, skipped: &mut Skipped, give: Give) -> ControlFlow<()> {
    // `Inputs::new` has already parsed the pattern; one that is refused now matches nothing.
    for found in glob::glob(pattern).into_iter().flatten() {
        let path = match found {
            Ok(path) => path,
            Err(error) => {
                give(Item::unusable(error.path(), error.error()))?;
                continue;
            }
        };
        let name = path.file_name().map(|name| path_name(Path::new(name))).unwrap_or_default();
        // A file that is normally skipped is wanted if the pattern itself contains its name.
        let text = path_name(&path);
        let leftover = text.split('/').filter(|part| !pattern.contains(part)).find_map(skipped_name);
        let other = leftover.or_else(|| skipped_file(&name).filter(|_| !path.is_dir()));
        match other {
            _ if outputs.contain(&path) => skipped.add(SkipKind::Output),
            Some(kind) => skipped.add(kind),
            None => place(&path, outputs, skipped, give)?,
        }
    }
    ControlFlow::Continue(())
}

/// Returns whether a file name in a folder has the extension of a tar.
fn is_tar_name(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar"))
}
