//! CIFAR-10 in its authors' binary batches: 10,000 rows of a label byte and `[3, 32, 32]` pixel bytes.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::sample::{ByteSource, Encoding, Sample};
use super::{Dataset, short};
use crate::{Error, Result, hexadecimal};

/// Name of the folder of the batches in the authors' archive.
pub const FOLDER: &str = "cifar-10-batches-bin";

/// Class names by label.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Names and SHA-256 of the batches; the last is the test batch.
pub const BATCHES: [(&str, &str); 6] = [
    ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
];

/// Mean and standard deviation of the training pixels per channel, for pixels scaled to 0..1.
pub const SCALE: ([f32; 3], [f32; 3]) =
    ([0.491_399_68, 0.482_158_27, 0.446_531_24], [0.247_032_33, 0.243_485_05, 0.261_587_68]);

/// Height and width of an image in pixels.
pub const SIDE: usize = 32;

/// Number of bytes of an image, without its label.
pub const PIXELS: usize = 3 * SIDE * SIDE;

/// Number of images in a batch.
pub const ROWS: usize = 10_000;

const HELP: &str = "help: `milenas-search data fetch cifar10` downloads the batches";

pub(super) fn open(dir: &Path) -> Result<Dataset> {
    let inner = dir.join(FOLDER);
    let folder = if inner.is_dir() { inner } else { dir.to_path_buf() };
    let mut batches = BATCHES.map(|(name, sha)| batch(&folder.join(name), sha)).into_iter();
    let test = batches.next_back().transpose()?.unwrap_or_default();
    let mut train = Vec::with_capacity(5 * ROWS);
    for batch in batches {
        train.extend(batch?);
    }
    let scale = Some((SCALE.0.to_vec(), SCALE.1.to_vec()));
    let (classes, fingerprint) = (CLASSES.map(String::from).to_vec(), "cifar10".into());
    Ok(Dataset { classes, train, test, scale, notes: Vec::new(), held_out: None, fingerprint })
}

fn batch(path: &PathBuf, sha: &str) -> Result<Vec<Sample>> {
    if !path.is_file() {
        return Err(Error::malformed(path.display().to_string(), format!("no such file. {HELP}")));
    }
    let file = File::open(path).map_err(Error::io(path))?;
    let (samples, found) = rows(BufReader::with_capacity(1 << 18, file), path)?;
    if found != sha {
        let problem = format!("is not the official {}: SHA-256 {found}, expected {sha}. {HELP}", short(path));
        return Err(Error::malformed(path.display().to_string(), problem));
    }
    Ok(samples)
}

/// Returns the rows of a batch, and the SHA-256 of the whole batch. Samples store the location of their pixels, not
/// the pixels.
fn rows(mut reader: impl Read, path: &Path) -> Result<(Vec<Sample>, String)> {
    let file: Arc<Path> = path.into();
    let form = Encoding::Planar { channels: 3, height: SIDE, width: SIDE };
    let mut hash = Sha256::new();
    let mut samples = Vec::with_capacity(ROWS);
    let mut row = [0; 1 + PIXELS];
    loop {
        let mut filled = 0;
        while filled < row.len() {
            match reader.read(&mut row[filled..]).map_err(Error::io(path))? {
                0 => break,
                n => filled += n,
            }
        }
        let index = samples.len();
        let place = || format!("{}, row {index}", path.display());
        match filled {
            0 => return Ok((samples, hexadecimal(hash.finalize()))),
            n if n < row.len() => {
                let problem = format!("{n} of {} bytes. {HELP}", row.len());
                return Err(Error::Truncated { place: place(), problem });
            }
            _ => {}
        }
        if usize::from(row[0]) >= CLASSES.len() {
            return Err(Error::malformed(place(), format!("label {}, expected 0 to 9. {HELP}", row[0])));
        }
        hash.update(row);
        let offset = (index * row.len() + 1) as u64;
        let bytes =
            ByteSource::Range { file: file.clone(), offset, length: PIXELS as u64, name: index.to_string() };
        samples.push(Sample::new(row[0].into(), bytes, form));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_are_label_then_pixels() {
        let bytes: Vec<u8> = (0..3u8).flat_map(|r| [vec![r + 4], vec![r; PIXELS]].concat()).collect();
        let (samples, sha) = rows(bytes.as_slice(), Path::new("b.bin")).unwrap();
        assert_eq!(samples.iter().map(Sample::class).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(samples[2].name(), "b.bin:2");
        assert_eq!(sha, hexadecimal(Sha256::digest(&bytes)));
    }

    #[test]
    fn damage_is_named() {
        let error = |bytes: Vec<u8>| rows(bytes.as_slice(), Path::new("b.bin")).unwrap_err().to_string();
        assert!(error(vec![1; 5000]).contains("row 1: truncated: 1927 of 3073"), "{}", error(vec![1; 5000]));
        assert!(error(vec![10; 3073]).contains("label 10"));
        let missing = open(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(missing.contains("data fetch cifar10"), "{missing}");
    }

    #[test]
    fn another_content_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, _) in BATCHES {
            std::fs::write(dir.path().join(name), vec![0; 2 * 3073]).unwrap();
        }
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("not the official data_batch_1.bin") || error.contains("test_batch"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let _ = rows(bytes.as_slice(), Path::new("b.bin"));
        }
    }
}
