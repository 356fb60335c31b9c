//! Sources of labelled images, as training, calibration and evaluation read them.
//!
//! [`Source::open`] lists what there is, sorted, and reads no picture; a [`Sample`] reads and decodes its own
//! when asked; [`Dataset::load`] does that for many, in parallel, and survives the bad ones.

mod archive;
pub mod cifar10;
mod classes;
mod describe;
mod digits;
mod escape;
mod folder;
mod layout;
mod load;
mod measured;
mod parts;
mod reading;
mod sample;
mod skip;
mod table;
mod tarball;
#[cfg(test)]
mod tests;
mod walk;
mod webdataset;

use std::fmt;
use std::path::{Path, PathBuf};

pub use archive::{Member, MemberKind, is_tar, members};
pub use classes::listed;
pub use describe::{ClassCount, DatasetSummary, SizeCount};
pub use escape::{escaped, path_name};
pub use load::Labelled;
pub use sample::{ByteSource, Sample};
pub use skip::{SkipKind, Skipped, skipped_file, skipped_name};
pub use walk::{Visit, WalkEntry, walk};

use crate::{Error, Result};

/// Where labelled images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in: 1,797 handwritten digits of 8x8 gray pixels.
    Digits,
    /// The folder of CIFAR-10's official binary batches, or its parent.
    Cifar10(PathBuf),
    /// A folder or a tar of `train/CLASS/*` with `test/CLASS/*` or `val/CLASS/*`, or of `CLASS/*`; tars of images with
    /// `.cls` files, or a folder of such tars; a CSV file of path and label.
    Path(PathBuf),
}

/// Labelled images, listed and not yet read.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What the images are of; a sample's class is an index into it. Sorted for folders and tars, by number if all names
    /// are numbers.
    pub classes: Vec<String>,
    /// To learn from.
    pub train: Vec<Sample>,
    /// To measure with.
    pub test: Vec<Sample>,
    /// The conventional mean and standard deviation per channel, where the data set has them.
    pub scale: Option<(Vec<f32>, Vec<f32>)>,
    /// Notes on how it was read, e.g. files that were skipped.
    pub notes: Vec<String>,
    /// The seed by which a fifth of each class became the test images, where the source has no test part.
    pub held_out: Option<u64>,
    /// Digest of the names and sizes of the images: of all images where the test images were held out of them, else of the
    /// training images. It does not depend on where the images lie.
    pub fingerprint: String,
}

impl Dataset {
    /// The notes, and one that says that test images were held out.
    pub fn all_notes(&self) -> Vec<String> {
        let held_out = self
            .held_out
            .map(|seed| format!("no test part: a fifth of each class was set aside by seed {seed}"));
        self.notes.iter().cloned().chain(held_out).collect()
    }
}

impl Source {
    /// `digits`, `cifar10:DIR` or a path.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            _ if text == "digits" => Ok(Source::Digits),
            Some(("cifar10", dir)) if !dir.is_empty() => Ok(Source::Cifar10(dir.into())),
            Some(("cifar10", _)) => Err(no_source(text)),
            _ if text == "cifar10" || text.is_empty() => Err(no_source(text)),
            _ => Ok(Source::Path(text.into())),
        }
    }

    /// Lists the samples. `seed` decides the split of a source that has none: a fifth of each class is for
    /// the test.
    ///
    /// # Errors
    /// A source that does not exist or is damaged, has fewer than two classes, an empty class, or classes in its test part
    /// that its training part lacks; a layout that can be read in two ways. Damage inside pictures shows when they are read.
    pub fn open(&self, seed: u64) -> Result<Dataset> {
        match self {
            Source::Digits => digits::open(),
            Source::Cifar10(dir) => cifar10::open(dir),
            Source::Path(path) if path.is_dir() => folder::open(path, seed),
            Source::Path(path) if path.is_file() && table::is_table(path) => table::open(path, seed),
            Source::Path(path) if path.is_file() => tarball::open(path, seed),
            Source::Path(path) => Err(no_source(&path_name(path))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Digits => write!(f, "digits"),
            Source::Cifar10(dir) => write!(f, "cifar10:{}", dir.display()),
            Source::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

fn no_source(found: &str) -> Error {
    let expected = "digits, cifar10:DIR, or the path of a folder, tar or CSV file that exists".into();
    Error::Value { what: "the data source".into(), found: format!("`{found}`"), expected }
}

/// `path` for a message, from its last component.
fn short(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
