//! The images that were asked for, named one by one: only the folders on the way are in memory.
//!
//! An argument is a file, a folder with all that lies below it, a tar, or a pattern; a list names any number of the
//! first three. Folders are sorted, so that the same files come in the same order wherever the run goes on.

mod folder;
mod list;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milenas_models::Error as Model;
use milenas_models::images::{Bytes, MemberKind, is_hidden, is_image_name, is_tar, members};

use crate::{Error, Result};

/// One thing to classify.
#[derive(Clone, Debug)]
pub enum Item {
    /// What is hoped to be an image.
    Image(Bytes),
    /// What cannot even be listed, with the reason: a folder without permission, a damaged archive.
    Unusable {
        /// Its name.
        name: String,
        /// The reason.
        reason: String,
    },
}

impl Item {
    /// The path, or `archive:member`.
    pub fn name(&self) -> String {
        match self {
            Item::Image(bytes) => bytes.name(),
            Item::Unusable { name, .. } => name.clone(),
        }
    }

    fn file(path: PathBuf) -> Self {
        Item::Image(Bytes::File(path))
    }

    fn unusable(path: &Path, reason: impl ToString) -> Self {
        Item::Unusable { name: path.display().to_string(), reason: reason.to_string() }
    }
}

/// Hears of the items, and may end the listing.
pub type Give<'a> = &'a mut dyn FnMut(Item) -> ControlFlow<()>;

/// What one argument names.
#[derive(Clone, Debug)]
enum Input {
    Path(PathBuf),
    Pattern(String),
    List(list::List),
}

/// Everything that was asked for.
#[derive(Clone, Debug)]
pub struct Inputs(Vec<Input>);

impl Inputs {
    /// Arguments in their order, then the list. `-`, as an argument or as the list, is standard input. `separator` is
    /// what ends a path in a list: a line feed or NUL.
    ///
    /// # Errors
    /// Nothing at all; a path that does not exist, a pattern that matches nothing, a compressed archive.
    pub fn new(arguments: &[PathBuf], list: Option<&Path>, separator: u8) -> Result<Self> {
        let mut inputs = Vec::new();
        for path in arguments {
            inputs.push(match std::fs::metadata(path) {
                _ if path == Path::new("-") => Input::List(list::List::new(path, separator)?),
                Ok(found) => {
                    if found.is_file() {
                        is_tar(path)?;
                    }
                    Input::Path(path.clone())
                }
                Err(source) => pattern(path).ok_or_else(|| Error::Input { path: path.clone(), source })??,
            });
        }
        if let Some(list) = list {
            inputs.push(Input::List(list::List::new(list, separator)?));
        }
        match inputs.is_empty() {
            true => Err(Error::Nothing),
            false => Ok(Inputs(inputs)),
        }
    }

    /// Whether a second walk gives the same again: standard input and pipes come once.
    pub fn repeatable(&self) -> bool {
        self.0.iter().all(|input| match input {
            Input::Path(_) | Input::Pattern(_) => true,
            Input::List(list) => list.repeatable(),
        })
    }

    /// Names every item to `give`, in order.
    pub fn walk(&self, give: Give) -> ControlFlow<()> {
        self.0.iter().try_for_each(|input| match input {
            Input::Path(path) => place(path, give),
            Input::Pattern(pattern) => matches(pattern, give),
            Input::List(list) => list.walk(give),
        })
    }
}

/// A folder, a tar or a file, as it was named.
fn place(path: &Path, give: Give) -> ControlFlow<()> {
    if path.is_dir() {
        return folder::walk(path, give);
    }
    match path.is_file() && is_tar(path).unwrap_or(false) {
        true => archive(path, give),
        false => give(Item::file(path.to_path_buf())),
    }
}

/// The images in a tar, in the order in which they lie there.
fn archive(path: &Path, give: Give) -> ControlFlow<()> {
    let file: Arc<Path> = path.into();
    let mut ended = ControlFlow::Continue(());
    let walked = members(path, &mut |member| {
        let parts = || Path::new(&member.name).components().map(|c| c.as_os_str().to_string_lossy());
        let shown = !parts().any(|part| part.len() > 1 && part != ".." && is_hidden(&part));
        if shown && is_image_name(&member.name) {
            let name = member.name.clone();
            match member.kind {
                MemberKind::Folder => {}
                MemberKind::File => {
                    let (offset, length) = (member.offset, member.length);
                    ended = give(Item::Image(Bytes::Range { file: file.clone(), offset, length, name }));
                }
                MemberKind::Other => {
                    let name = format!("{}:{name}", path.display());
                    ended = give(Item::Unusable { name, reason: "a link or a special file".into() });
                }
            }
        }
        Ok::<_, Model>(ended)
    });
    match walked {
        Err(error) if ended.is_continue() => give(Item::unusable(path, error)),
        Ok(()) | Err(_) => ended,
    }
}

/// An argument that is no path but has the signs of a pattern.
fn pattern(path: &Path) -> Option<Result<Input>> {
    let text = path.to_str().filter(|text| text.contains(['*', '?', '[']))?;
    let refused = |problem: String| Error::Pattern { pattern: text.into(), problem };
    Some(match glob::glob(text) {
        Err(error) => Err(refused(error.to_string())),
        Ok(mut found) => match found.next() {
            None => Err(refused("matches nothing".into())),
            Some(_) => Ok(Input::Pattern(text.into())),
        },
    })
}

/// What a pattern matches, sorted; files that are surely no images are left out, as in folders.
fn matches(pattern: &str, give: Give) -> ControlFlow<()> {
    // It was read before; a pattern that is refused now matches nothing.
    for found in glob::glob(pattern).into_iter().flatten() {
        match found {
            Ok(path) if path.is_dir() || is_image_name(&path.to_string_lossy()) => place(&path, give)?,
            Ok(_) => {}
            Err(error) => give(Item::unusable(error.path(), error.error()))?,
        }
    }
    ControlFlow::Continue(())
}

/// Whether a name in a folder says that it is a tar.
fn is_tar_name(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar"))
}
