//! Sources of labelled images for training, calibration and evaluation.
//!
//! [`Source::open`] lists the samples in sorted order without reading any image. A [`Sample`] reads and decodes its
//! image on request. [`Dataset::load`] does so for many samples in parallel, and reports unreadable ones.

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

/// Source of labelled images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The built-in data set: 1,797 handwritten digits of 8x8 gray pixels.
    Digits,
    /// The folder of CIFAR-10's official binary batches, or its parent.
    Cifar10(PathBuf),
    /// A folder or a tar of `train/CLASS/*` with `test/CLASS/*` or `val/CLASS/*`, or of `CLASS/*`; tars of images
    /// with `.cls` files, or a folder of such tars; or a CSV file of path and label.
    Path(PathBuf),
}

/// Labelled images, listed but not yet read.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Names of the classes; a sample's class is an index into them. For folders and tars they are sorted, by number
    /// if all names are numbers.
    pub classes: Vec<String>,
    /// Training images.
    pub train: Vec<Sample>,
    /// Test images.
    pub test: Vec<Sample>,
    /// The conventional mean and standard deviation of each channel, if the data set has them.
    pub scale: Option<(Vec<f32>, Vec<f32>)>,
    /// Notes on how the source was read, e.g. skipped files.
    pub notes: Vec<String>,
    /// Seed that selected a fifth of each class as test images, if the source has no test part.
    pub held_out: Option<u64>,
    /// Digest of the names and sizes of the images. It covers all images if test images were held out of them, else
    /// the training images. It does not depend on the location of the images.
    pub fingerprint: String,
}

impl Dataset {
    /// Returns the notes. If test images were held out, a last note states the seed.
    pub fn all_notes(&self) -> Vec<String> {
        let held_out = self
            .held_out
            .map(|seed| format!("no test part: a fifth of each class was set aside by seed {seed}"));
        self.notes.iter().cloned().chain(held_out).collect()
    }
}

impl Source {
    /// Parses `digits`, `cifar10:DIR` or a path.
    ///
    /// # Errors
    /// [`Error::Value`] for other text.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            _ if text == "digits" => Ok(Source::Digits),
            Some(("cifar10", dir)) if !dir.is_empty() => Ok(Source::Cifar10(dir.into())),
            Some(("cifar10", _)) => Err(no_source(text)),
            _ if text == "cifar10" || text.is_empty() => Err(no_source(text)),
            _ => Ok(Source::Path(text.into())),
        }
    }

    /// Lists the samples. `seed` determines the split of a source without test part: a fifth of each class becomes
    /// test images.
    ///
    /// # Errors
    /// - [`Error::Value`] for a source that does not exist.
    /// - [`Error::Io`] for a file that cannot be read, and [`Error::Truncated`] for an incomplete archive or batch.
    /// - [`Error::Malformed`] for a damaged source, one with fewer than two classes, an empty class, or a class only in the
    ///   test part, and for a layout with two possible readings.
    ///
    /// Damaged images are reported when they are read.
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

/// Returns the last component of `path`, for messages.
fn short(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
