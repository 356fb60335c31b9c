//! Sources of labelled images, as training, calibration and evaluation read them.
//!
//! [`Source::open`] lists what there is, sorted, and reads no picture; a [`Sample`] reads and decodes its own
//! when asked; [`Dataset::load`] does that for many, in parallel, and survives the bad ones.

mod archive;
pub mod cifar10;
mod describe;
mod digits;
mod folder;
mod layout;
mod load;
mod sample;
mod tarball;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

pub use archive::{Member, MemberKind, is_tar, members};
pub use describe::{ClassCount, SizeCount, Summary};
pub use layout::{is_hidden, is_image_name};
pub use load::Labelled;
pub use sample::{Bytes, Sample};

use crate::{Error, Result};

/// Where labelled images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in: 1,797 handwritten digits of 8x8 gray pixels.
    Digits,
    /// The folder of CIFAR-10's official binary batches, or its parent.
    Cifar10(PathBuf),
    /// A folder or a tar of `train/CLASS/*` with `test/CLASS/*` or `val/CLASS/*`, or of `CLASS/*`.
    Path(PathBuf),
}

/// Labelled images, listed and not yet read.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What the images are of; a sample's class is an index into it. Sorted for folders and tars.
    pub classes: Vec<String>,
    /// To learn from.
    pub train: Vec<Sample>,
    /// To measure with.
    pub test: Vec<Sample>,
    /// The conventional mean and standard deviation per channel, where the data set has them.
    pub scale: Option<(Vec<f32>, Vec<f32>)>,
    /// What a user should know about how it was read: a split that was made, files that were left out.
    pub notes: Vec<String>,
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
    /// A source that does not exist or is damaged, has fewer than two classes, an empty class, or other
    /// classes in its test part than in its training part. Damage inside pictures shows when they are read.
    pub fn open(&self, seed: u64) -> Result<Dataset> {
        match self {
            Source::Digits => digits::open(),
            Source::Cifar10(dir) => cifar10::open(dir),
            Source::Path(path) if path.is_dir() => folder::open(path, seed),
            Source::Path(path) if path.is_file() => tarball::open(path, seed),
            Source::Path(path) => Err(no_source(&path.display().to_string())),
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
    let expected = "digits, cifar10:DIR, or the path of a folder or tar that exists".into();
    Error::Value { what: "the data source".into(), found: format!("`{found}`"), expected }
}

/// `path` for a message, from its last component.
fn short(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
